"""Exports give the run's logits in other libraries, in a process without this software."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.classifier.trained import load_trained
from core.classifier.weights import read_state, write_state
from core.errors import ConfigurationError, CoreError, DataError, ModelError
from core.export.export import ABOUT, BACKBONE, FORMATS, export_run
from core.models.tuning.registry import TUNING_METHODS
from core.reporter import NullReporter
from core.training.loop import fine_tune
from core.workspace import BEST, RESULT
from tests.support.paths import ROOT
from tests.support.programs import output_of

Runs = Callable[..., Path]

ADAPTERS = [name for name, one in TUNING_METHODS.items() if one.config or name == "ln-tuning"]
"""Methods with an adapter that peft supports."""

LIMITED = """
import resource, sys
from pathlib import Path
from core.errors import CoreError
from core.export.export import export_run
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # bytes per file, like a full disk
try:
    export_run(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
except CoreError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def runs(radiographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Finished runs by method and backbone, made only once; their logits depend on all weights."""
    from core.config.run import RunSpec

    root, made = tmp_path_factory.mktemp("runs"), {}

    def run(method: str = "lora", backbone: str = "timm:test_vit", **changes: Any) -> Path:
        key = f"{method}-{backbone}-{len(changes)}".replace(":", "-")
        if key in made:
            return made[key]
        fields = {
            "data.name": "folder", "data.root": radiographs, "data.label_fraction": 1.0,
            "model.backbone": backbone, "model.pretrained": False, "model.input_size": 64,
            "adapter.method": method, "train.epochs": 1, "train.device": "cpu",
        }  # fmt: skip
        spec = RunSpec.of(**{**fields, **{k.replace("__", "."): v for k, v in changes.items()}})
        fine_tune(spec, root / key, root / "cache", NullReporter())
        perturb(root / key)
        made[key] = root / key
        return made[key]

    return run


def perturb(folder: Path) -> None:
    """Change the trained weights, which a short training has hardly changed."""
    generator = torch.Generator().manual_seed(3)
    state, about = read_state(folder / BEST)
    for name, value in state.items():
        if value.is_floating_point():
            scale = 0.5 if name.startswith("head") and value.ndim == 2 else 0.02
            noise = scale * torch.randn(value.shape, generator=generator)
            state[name] = value + (noise.abs() if name.endswith("running_var") else noise)
    write_state(folder / BEST, state, about)


def pixels(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(7))


def run_logits(run: Path) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = load_trained(run).model(pixels())
    assert float(logits.std(dim=0).min()) > 1e-3  # otherwise the comparison is meaningless
    return logits


def snippet(folder: Path) -> str:
    match = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert match is not None
    return match[1]


def elsewhere(folder: Path) -> torch.Tensor:
    """Logits of the card's code for ``pixels``, in a process that does not import this software."""
    code, count = re.subn(r"pixels = \w+\.zeros\(.*\)", "pixels = given", snippet(folder))
    assert count == 1
    onnx = "onnxruntime" in code
    save_file({"pixels": pixels()}, folder.parent / "pixels.safetensors")
    program = (
        "import sys, torch\nfrom safetensors.torch import load_file, save_file\n"
        f"given = load_file({str(folder.parent / 'pixels.safetensors')!r})['pixels']\n"
        f"{'given = given.numpy()' if onnx else ''}\n{code}\n"
        f"logits = {'torch.from_numpy(logits)' if onnx else 'logits.detach()'}\n"
        f"save_file({{'logits': logits}}, {str(folder.parent / 'logits.safetensors')!r})\n"
        "assert not {name for name in sys.modules if name.split('.')[0] in ('core', 'explorer')}\n"
    )
    run_program(program, folder)
    return load_file(folder.parent / "logits.safetensors")["logits"]


def run_program(program: str, folder: Path, *words: object) -> str:
    hidden = {"PYTHONPATH", "CXR_WORKSPACE"}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in hidden} | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_the_cards_code_gives_the_runs_logits(runs: Runs, tmp_path: Path, format: str) -> None:
    run, out = runs(), tmp_path / "out"
    written = export_run(run, format, out)
    assert sorted(written.files) == sorted(file.name for file in out.iterdir())
    assert written.size == sum(file.stat().st_size for file in out.iterdir())
    assert difference(elsewhere(out), run_logits(run)) < (1e-4 if format == "onnx" else 1e-5)
    run_program(snippet(out), out)  # also unchanged
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.slow
@pytest.mark.parametrize("method", TUNING_METHODS)
def test_every_method_is_exported_or_rejected_with_a_remedy(
    runs: Runs, tmp_path: Path, method: str
) -> None:
    run = runs(method)
    logits = run_logits(run)
    import timm

    try:
        export_run(run, "merged", tmp_path / "merged")
    except ModelError as error:
        remedy = error.remedy
        written = export_run(run, "onnx", tmp_path / "onnx")
        assert ("format onnx" in remedy, written.difference < 1e-4) == (True, True)
    else:
        model = timm.create_model(f"local-dir:{tmp_path / 'merged'}", pretrained=True).eval()
        with torch.inference_mode():
            assert difference(model(pixels()), logits) < 1e-5
    if method in ADAPTERS:
        written = export_run(run, "peft", tmp_path / "peft")
        assert written.difference < 1e-5
        assert difference(reloaded(tmp_path / "peft"), logits) < 1e-5
        return
    if method in ("attentive", "knn", "pixels"):
        message, other = "which peft and timm cannot represent", "format onnx"
    else:
        message, other = "has no adapter that peft supports", "format merged"
    with pytest.raises(ModelError, match=message) as caught:
        export_run(run, "peft", tmp_path / "peft")
    assert other in caught.value.remedy
    assert not (tmp_path / "peft").exists()


def reloaded(folder: Path) -> torch.Tensor:
    import warnings

    import peft
    import timm

    about = json.loads((folder / ABOUT).read_text())
    model = timm.create_model(about["architecture"], **about["arguments"])
    model.load_state_dict(load_file(folder / BACKBONE))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unsupported layer type")
        wrapped = peft.PeftModel.from_pretrained(model, str(folder)).eval()
    with torch.inference_mode():
        logits: torch.Tensor = wrapped(pixels())
    return logits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "method", "changes"),
    [
        ("timm:test_convnext", "lora", {"adapter__targets": "mlp"}),
        ("timm:eva02_tiny_patch14_224", "lora", {"model__input_size": 56}),
        ("timm:eva02_tiny_patch14_224", "vera", {"model__input_size": 56}),
        ("timm:swin_tiny_patch4_window7_224", "lora", {}),
        ("timm:densenet121", "ln-tuning", {}),
        ("timm:densenet121", "full", {}),
    ],
)
def test_other_architectures_are_exported(
    runs: Runs, tmp_path: Path, backbone: str, method: str, changes: dict[str, Any]
) -> None:
    run = runs(method, backbone, **changes)
    assert export_run(run, "merged", tmp_path / "merged").difference < 1e-4
    if method in ADAPTERS:
        assert export_run(run, "peft", tmp_path / "peft").difference < 1e-4


@pytest.mark.slow
def test_weights_that_timm_downloads_are_not_exported(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm
    from huggingface_hub import constants

    name, hub = "test_vit.r160_in1k", tmp_path / "hub"
    place = hub / f"models--timm--{name}"
    (place / "snapshots" / "abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    torch.manual_seed(3)
    source = timm.create_model("test_vit")
    save_file(source.state_dict(), place / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    changes = {"model__pretrained": True, "model__input_size": None}
    run = runs("lora", f"timm:{name}", **changes)
    export_run(run, "peft", tmp_path / "out")
    assert not (tmp_path / "out" / BACKBONE).exists()
    assert "pretrained=True" in snippet(tmp_path / "out")
    run_program(snippet(tmp_path / "out"), tmp_path / "out")
    resized = runs(
        "lora", f"timm:{name}", model__pretrained=True
    )  # at 64 px timm interpolates differently
    export_run(resized, "peft", tmp_path / "resized")
    assert (tmp_path / "resized" / BACKBONE).exists()


def test_the_card_contains_data_scores_licences_and_limits(runs: Runs, tmp_path: Path) -> None:
    run = runs()
    export_run(run, "peft", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    result = json.loads((run / RESULT).read_text())
    for finding in ("Pneumonia", "Plate"):
        score = result["scores"]["test"]["per_finding"][finding]
        assert re.search(rf"\| {finding} \|.*\| {score:.3f} \|", card)
    assert "For research and education, not for clinical use" in card
    assert "40 labelled training images" in card
    assert "The backbone's weights: " in card
    assert "control, not a model to use" in card  # it started from random weights
    assert str(run.parent) not in card
    assert str(ROOT) not in card


def test_nothing_is_overwritten_without_force(runs: Runs, tmp_path: Path) -> None:
    run, out = runs(), tmp_path / "out"
    export_run(run, "merged", out)
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    with pytest.raises(ConfigurationError, match="earlier export") as caught:
        export_run(run, "merged", out)
    assert "--force" in caught.value.remedy
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before
    export_run(run, "peft", out, force=True)
    assert not (out / "model.safetensors").exists()
    assert (out / "adapter_model.safetensors").exists()

    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    for place in (theirs, theirs / "thesis.txt"):
        with pytest.raises(ConfigurationError, match="not an earlier export"):
            export_run(run, "merged", place, force=True)
    assert (theirs / "thesis.txt").read_text() == "years of work"
    with pytest.raises(ConfigurationError, match="cannot be written"):
        export_run(run, "merged", theirs / "thesis.txt" / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "theirs"]


@pytest.mark.slow
@pytest.mark.parametrize("format", ["merged", "peft"])
def test_a_full_disk_leaves_no_partial_export(runs: Runs, tmp_path: Path, format: str) -> None:
    printed = output_of(LIMITED, runs(), format, tmp_path / "out")
    assert "cannot be written (" in printed
    assert "Free space on the disk" in printed
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_rejected(runs: Runs, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "stopped"
    shutil.copytree(runs(), folder)
    (folder / RESULT).unlink()
    with pytest.raises(DataError, match="no result yet") as caught:
        export_run(folder, "peft", tmp_path / "out")
    assert "Wait until it has completed" in caught.value.remedy
    with pytest.raises(CoreError, match="Did you mean peft"):
        export_run(runs(), "pef", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_graph_accepts_any_batch_size(runs: Runs, tmp_path: Path) -> None:
    import onnxruntime

    run = runs()
    export_run(run, "onnx", tmp_path / "out")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    for count in (1, 2, 5):
        (logits,) = session.run(None, {"pixels": pixels(count).numpy()})
        with torch.inference_mode():
            expected = load_trained(run).model(pixels(count)).numpy()
        assert np.abs(logits - expected).max() < 1e-4
