"""An imported adapter becomes a run like any other; adapters that do not fit are rejected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import timm
import torch

from core.classifier.trained import load_trained, read_result
from core.config.run import RunSpec
from core.errors import ConfigurationError, ModelError
from core.evaluation import evaluate
from core.evaluation.predictions import read_predictions
from core.export.export import ABOUT, BACKBONE, export_run
from core.export.import_adapter import copy_adapter, prepare_import
from core.models.peft_files.read import CONFIG, read_adapter
from core.reporter import NullReporter
from core.resources import preflight
from core.saliency import request
from core.training.loop import fine_tune
from core.workspace import ADAPTER
from tests.support.programs import Cli

Tiny = Callable[..., RunSpec]
EXACT = {"train__precision": "fp32"}
"""Two layouts of one model give equal logits only in fp32."""


@pytest.fixture
def exported(tiny: Tiny, tmp_path: Path) -> Callable[..., Path]:
    """Train a run and export its adapter into ``peft`` of the run's folder, which is returned."""

    def make(method: str = "lora") -> Path:
        folder = tmp_path / method
        # A rate with which even a short training changes the weights.
        spec = tiny(adapter__method=method, train__lr=0.02, **EXACT)
        fine_tune(spec, folder, tmp_path / "cache", NullReporter())
        export_run(folder, "peft", folder / "peft")
        return folder

    return make


def source(tiny: Tiny, folder: Path, **changes: Any) -> RunSpec:
    """The data and the backbone of an import of what ``exported`` exported."""
    weights = folder / "peft" / BACKBONE
    return tiny(**{"model__pretrained": True, "model__weights": weights, **EXACT, **changes})


def import_run(adapter: Path, spec: RunSpec, folder: Path) -> dict[str, Any]:
    complete, _ = prepare_import(adapter, spec)
    copy_adapter(adapter, folder)
    return fine_tune(complete, folder, folder.parent / "cache", NullReporter())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "dora", "lokr", "ia3", "ln-tuning"])
def test_export_and_import_give_the_same_predictions(
    tiny: Tiny, exported: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    run, back = exported(method), tmp_path / "back"
    result = import_run(run / "peft", source(tiny, run), back)
    assert result == read_result(back)
    for split in ("val", "test"):
        own, found = (read_predictions(one, split) for one in (run, back))
        assert np.abs(own.scores - found.scores).max() < 1e-5
        assert float(own.scores.std(axis=0).min()) > 1e-3
        assert np.array_equal(own.ids, found.ids)
    assert load_trained(back).spec.adapter.method == {"lokr": "lora"}.get(method, method)
    assert result["images"] == 0
    assert 0 < result["trainable"] < result["total"]


@pytest.mark.slow
def test_an_imported_run_is_compared_explained_and_exported(
    tiny: Tiny, exported: Callable[..., Path], tmp_path: Path
) -> None:
    run, back = exported(), tmp_path / "back"
    import_run(run / "peft", source(tiny, run), back)
    assert evaluate.compare_runs(run, back).studies == 16
    for method in ("grad-cam", "attention-rollout"):
        asked = {"study": "test-02.png", "method": method}
        mine, theirs = (request.explain_run(one, "Plate", **asked) for one in (run, back))  # type: ignore[arg-type]
        a, b = mine.explanation, theirs.explanation
        assert a.probability == pytest.approx(b.probability, abs=1e-5)
        assert np.abs(a.map - b.map).max() < 1e-3 * max(1.0, float(a.map.max()))
    for format in ("peft", "merged"):
        assert export_run(back, format, tmp_path / format).difference < 1e-5
    card = (tmp_path / "peft" / "README.md").read_text()
    assert "the adapter was trained elsewhere. Tested on Your own folder" in card
    again = read_adapter(tmp_path / "peft")
    assert again.layers.keys() == read_adapter(run / "peft").layers.keys()


def test_an_adapter_of_plain_peft_and_timm_is_imported(tiny: Tiny, tmp_path: Path) -> None:
    """A LoRA of the fused matrix without fc_norm, made without this software."""
    torch.manual_seed(4)
    model = timm.create_model("test_vit", num_classes=2, global_pool="avg", img_size=64)
    torch.save(model.state_dict(), tmp_path / "backbone.pth")
    config = peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=["qkv"], modules_to_save=["head"], init_lora_weights=False
    )
    wrapped = peft.get_peft_model(model, config).eval()
    wrapped.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    spec = tiny(model__pretrained=True, model__weights=tmp_path / "backbone.pth")
    complete, notes = prepare_import(tmp_path / "adapter", spec)
    assert (complete.adapter.rank, complete.adapter.alpha, complete.adapter.targets) == (
        2,
        4,
        "qkv",
    )
    assert complete.title() == "LoRA r 2, imported · timm:test_vit · folder"
    assert any("contains no fc_norm" in note for note in notes)
    assert any("Pneumonia, Plate, in this order" in note for note in notes)
    import_run(tmp_path / "adapter", spec, tmp_path / "run")
    found = load_trained(tmp_path / "run")
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert float((found.model(pixels) - wrapped(pixels)).abs().max()) < 1e-5


def test_an_adapter_needs_its_weights_and_findings(
    tiny: Tiny, exported: Callable[..., Path]
) -> None:
    run = exported()
    other = source(tiny, run, model__weights=None, model__pretrained=False, train__seed=5)
    with pytest.raises(ModelError, match="made for another backbone") as caught:
        prepare_import(run / "peft", other)
    assert "backbone.safetensors" in caught.value.remedy
    spec = source(tiny, run)
    about = run / "peft" / ABOUT
    content = json.loads(about.read_text())
    about.write_text(json.dumps(content | {"findings": ["Plate", "Pneumonia"]}))
    with pytest.raises(ModelError, match="outputs are Plate, Pneumonia; the data set's"):
        prepare_import(run / "peft", spec)
    phantoms = {"data__name": "phantom-5", "data__root": None}
    about.unlink()
    with pytest.raises(ModelError, match="has 2 outputs, the data set 5 findings"):
        prepare_import(run / "peft", source(tiny, run, **phantoms))


@pytest.mark.slow
def test_a_run_checks_that_its_adapter_is_unchanged(
    tiny: Tiny, exported: Callable[..., Path], tmp_path: Path
) -> None:
    run, back = exported(), tmp_path / "back"
    import_run(run / "peft", source(tiny, run), back)
    with pytest.raises(ConfigurationError, match="is evaluated, not trained"):
        preflight.check(load_trained(back).spec)
    config = back / ADAPTER / CONFIG
    config.write_text(config.read_text() + " ")
    with pytest.raises(ModelError, match="not the one that was imported"):
        load_trained(back)
    shutil.rmtree(back / ADAPTER)
    with pytest.raises(ModelError, match="not an adapter folder of peft"):
        load_trained(back)


@pytest.mark.slow
def test_the_command_stores_a_completed_run_or_none(
    exported: Callable[..., Path], radiographs: Path, tmp_path: Path, cli: Cli
) -> None:
    run = exported()
    place = ["--workspace", tmp_path / "workspace", "--json"]
    asked = [
        "import-adapter", run / "peft", "--data", "folder", "--root", radiographs,
        "--backbone", "timm:test_vit", "--input-size", 64, "--device", "cpu",
        *place, "--name", "from elsewhere", "--weights",
    ]  # fmt: skip
    code, out, err = cli(*asked, run / "peft" / "none.safetensors")
    assert (code, out) == (1, "")
    assert "There is no file" in err
    assert not (tmp_path / "workspace").exists()
    found = cli(*asked, run / "peft" / BACKBONE).json
    assert (found["state"], found["name"]) == ("completed", "from elsewhere")
    shown = cli("show", "from elsewhere", *place).json
    assert shown["scores"]["test"]["studies"] == 16
    assert shown["spec"]["adapter"]["imported"]
    assert cli("export", "from elsewhere", "--format", "merged", *place).code == 0
