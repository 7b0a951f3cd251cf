"""An adapter from elsewhere becomes a run like any other: there and back, and every refusal."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import timm
import torch

from core.classifier.trained import load_trained, read_result
from core.cli.app import main
from core.config.run import RunSpec
from core.errors import ConfigurationError, ModelError
from core.evaluation import evaluate
from core.evaluation.predictions import read_predictions
from core.export import export, import_adapter
from core.models.peft_files import read as foreign
from core.reporter import NullReporter
from core.resources import preflight
from core.saliency import request
from core.training.loop import fine_tune
from core.workspace import ADAPTER

Tiny = Callable[..., RunSpec]
EXACT = {"train__precision": "fp32"}
"""So that two layouts of one model answer alike to the last digits."""


@pytest.fixture
def there(tiny: Tiny, tmp_path: Path) -> Callable[..., Path]:
    """Train a run and export its adapter, into ``peft`` of the run's folder, which is returned."""

    def make(method: str = "lora") -> Path:
        folder = tmp_path / method
        # A rate at which even a short training moves what it trains.
        spec = tiny(adapter__method=method, train__lr=0.02, **EXACT)
        fine_tune(spec, folder, tmp_path / "cache", NullReporter())
        export.export_run(folder, "peft", folder / "peft")
        return folder

    return make


def source(tiny: Tiny, folder: Path, **changes: Any) -> RunSpec:
    """The data and the backbone of an import of what ``there`` exported."""
    weights = folder / "peft" / export.BACKBONE
    return tiny(**{"model__pretrained": True, "model__weights": weights, **EXACT, **changes})


def carry_out(adapter: Path, spec: RunSpec, folder: Path) -> dict[str, Any]:
    whole, _ = import_adapter.prepare(adapter, spec)
    import_adapter.keep(adapter, folder)
    return fine_tune(whole, folder, folder.parent / "cache", NullReporter())


@pytest.mark.parametrize("method", ["lora", "dora", "lokr", "ia3", "ln-tuning"])
def test_there_and_back_the_predictions_are_the_same(
    tiny: Tiny, there: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    run, back = there(method), tmp_path / "back"
    result = carry_out(run / "peft", source(tiny, run), back)
    assert result == read_result(back)
    for split in ("val", "test"):
        own, found = (read_predictions(one, split) for one in (run, back))
        assert np.abs(own.scores - found.scores).max() < 1e-5
        assert float(own.scores.std(axis=0).min()) > 1e-3
        assert np.array_equal(own.ids, found.ids)
    assert load_trained(back).spec.adapter.method == {"lokr": "lora"}.get(method, method)
    assert result["images"] == 0
    assert 0 < result["trainable"] < result["total"]


def test_an_imported_run_is_compared_explained_and_exported_like_any_other(
    tiny: Tiny, there: Callable[..., Path], tmp_path: Path
) -> None:
    run, back = there(), tmp_path / "back"
    carry_out(run / "peft", source(tiny, run), back)
    assert evaluate.compare_runs(run, back).studies == 16
    for method in ("grad-cam", "attention-rollout"):
        asked = {"study": "test-02.png", "method": method}
        mine, theirs = (request.explain_run(one, "Plate", **asked) for one in (run, back))  # type: ignore[arg-type]
        a, b = mine.explanation, theirs.explanation
        assert a.probability == pytest.approx(b.probability, abs=1e-5)
        assert np.abs(a.map - b.map).max() < 1e-3 * max(1.0, float(a.map.max()))
    for format in ("peft", "merged"):
        assert export.export_run(back, format, tmp_path / format).difference < 1e-5
    card = (tmp_path / "peft" / "README.md").read_text()
    assert "it was tuned elsewhere. Tested on A folder" in card
    again = foreign.read(tmp_path / "peft")
    assert again.layers.keys() == foreign.read(run / "peft").layers.keys()


def test_what_plain_peft_and_timm_made_is_imported(tiny: Tiny, tmp_path: Path) -> None:
    """A fused-matrix LoRA of somebody who never saw this software, without fc_norm."""
    torch.manual_seed(4)
    model = timm.create_model("test_vit", num_classes=2, global_pool="avg", img_size=64)
    torch.save(model.state_dict(), tmp_path / "backbone.pth")
    config = peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=["qkv"], modules_to_save=["head"], init_lora_weights=False
    )
    wrapped = peft.get_peft_model(model, config).eval()
    wrapped.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    spec = tiny(model__pretrained=True, model__weights=tmp_path / "backbone.pth")
    whole, notes = import_adapter.prepare(tmp_path / "adapter", spec)
    assert (whole.adapter.rank, whole.adapter.alpha, whole.adapter.targets) == (2, 4, "qkv")
    assert whole.title() == "LoRA r 2, imported · timm:test_vit · folder"
    assert any("holds no fc_norm" in note for note in notes)
    assert any("Pneumonia, Plate, in this order" in note for note in notes)
    carry_out(tmp_path / "adapter", spec, tmp_path / "run")
    found = load_trained(tmp_path / "run")
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert float((found.model(pixels) - wrapped(pixels)).abs().max()) < 1e-5


def test_an_adapter_goes_only_with_its_own_weights_and_findings(
    tiny: Tiny, there: Callable[..., Path]
) -> None:
    run = there()
    other = source(tiny, run, model__weights=None, model__pretrained=False, train__seed=5)
    with pytest.raises(ModelError, match="made for another backbone") as caught:
        import_adapter.prepare(run / "peft", other)
    assert "backbone.safetensors" in caught.value.remedy
    spec = source(tiny, run)
    about = run / "peft" / export.ABOUT
    told = json.loads(about.read_text())
    about.write_text(json.dumps(told | {"findings": ["Plate", "Pneumonia"]}))
    with pytest.raises(ModelError, match="outputs are Plate, Pneumonia; the data set's"):
        import_adapter.prepare(run / "peft", spec)
    phantoms = {"data__name": "phantom-5", "data__root": None}
    about.unlink()
    with pytest.raises(ModelError, match="has 2 outputs, the data set 5 findings"):
        import_adapter.prepare(run / "peft", source(tiny, run, **phantoms))


def test_a_run_holds_on_to_the_adapter_it_was_made_of(
    tiny: Tiny, there: Callable[..., Path], tmp_path: Path
) -> None:
    run, back = there(), tmp_path / "back"
    carry_out(run / "peft", source(tiny, run), back)
    with pytest.raises(ConfigurationError, match="is evaluated, not trained"):
        preflight.check(load_trained(back).spec)
    config = back / ADAPTER / foreign.CONFIG
    config.write_text(config.read_text() + " ")
    with pytest.raises(ModelError, match="not the one that was imported"):
        load_trained(back)
    shutil.rmtree(back / ADAPTER)
    with pytest.raises(ModelError, match="no adapter of peft's"):
        load_trained(back)


def test_the_verb_makes_a_completed_run_or_none(
    tiny: Tiny,
    there: Callable[..., Path],
    radiographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = there()

    def cli(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        place = ["--workspace", str(tmp_path / "workspace"), "--json"]
        monkeypatch.setattr(sys, "argv", ["core", *map(str, words), *place])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return int(end.value.code or 0), out, err

    asked = [
        "import-adapter", run / "peft", "--data", "folder", "--root", radiographs,
        "--backbone", "timm:test_vit", "--input-size", 64, "--device", "cpu",
        "--name", "from elsewhere", "--weights",
    ]  # fmt: skip
    code, out, err = cli(*asked, run / "peft" / "none.safetensors")
    assert (code, out) == (1, "")
    assert "There is no file" in err
    assert not (tmp_path / "workspace").exists()
    code, out, err = cli(*asked, run / "peft" / export.BACKBONE)
    assert code == 0, err
    found = json.loads(out)
    assert (found["state"], found["name"]) == ("completed", "from elsewhere")
    code, out, err = cli("show", "from elsewhere")
    shown = json.loads(out)
    assert shown["scores"]["test"]["studies"] == 16
    assert shown["spec"]["adapter"]["imported"]
    code, out, err = cli("export", "from elsewhere", "--format", "merged")
    assert code == 0, err
