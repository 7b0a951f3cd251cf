"""Every method on every kind of network, through the real training loop and back from disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.classifier.trained import load_trained, read_result
from core.config.run import AdapterSpec, RunSpec
from core.data.datasets.registry import open_dataset
from core.data.images.reader import read_image
from core.errors import ConfigurationError
from core.models.backbones.registry import BACKBONES, BackboneCard, backbone_card
from core.models.tuning.apply import classifier_parameters, count_parameters
from core.models.tuning.registry import TUNING_METHODS
from core.reporter import NullReporter
from core.saliency.explain import explain
from core.training.loop import fine_tune
from tests.support.paths import ROOT

LINEAR_ONLY = {"pissa", "olora", "vera", "vblora", "fourierft"}
UNFIT = {
    "vit": set[str](),
    "eva": set[str](),
    "convnext": LINEAR_ONLY | {"vpt"},
    "densenet": LINEAR_ONLY | {"vpt", "ia3"},
}
"""What a method cannot tune, by network: its convolutions, its lack of tokens or of an MLP."""

SMALL: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "vit": ("vit_tiny_patch16_224", {"depth": 2}, 32, "qv"),
    "eva": ("eva02_tiny_patch14_224", {"depth": 2}, 56, "qv"),
    "convnext": ("convnext_atto", {"depths": (1, 1, 1, 1)}, 32, "mlp"),
    "densenet": ("densenet121", {"block_config": (2, 2, 2, 2)}, 32, "all"),
}
"""timm's architecture, made shallow; the input's side in pixels; layers that fit it."""

OF = [(kind, name) for kind in SMALL for name in TUNING_METHODS if name not in UNFIT[kind]]


def cards() -> dict[str, BackboneCard]:
    return {
        kind: BackboneCard(
            name=kind, title=kind, architecture=architecture, arguments=arguments, input_size=size,
            mean=0.5, std=0.25, source="timm", licence="", pretraining="", paper="", url="",
        )
        for kind, (architecture, arguments, size, _) in SMALL.items()
    }  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _small_backbones() -> Iterator[None]:
    BACKBONES.update(cards())
    yield
    for kind in SMALL:
        del BACKBONES[kind]


@pytest.fixture(scope="module")
def trained(
    radiographs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """The folder of a run of two steps, carried out once; all share one cache."""
    root = tmp_path_factory.mktemp("matrix")

    def folder(kind: str, method: str) -> Path:
        place = root / f"{kind}-{method}"
        if not place.exists():
            fine_tune(spec(radiographs, kind, method), place, root / "cache", NullReporter())
        return place

    return folder


def spec(root: Path, kind: str, method: str, **more: Any) -> RunSpec:
    _, _, size, targets = SMALL[kind]
    fields = {
        "data.name": "folder",
        "data.root": root,
        "data.label_fraction": 1.0,
        "model.backbone": kind,
        "model.pretrained": False,
        "model.input_size": size,
        "adapter.method": method,
        "adapter.targets": targets,
        "train.epochs": 1,
        "train.batch_size": 20,
        "train.device": "cpu",
        "train.precision": "fp32",  # what is saved is compared to the last digits
    }
    return RunSpec.of(**{**fields, **more})


@pytest.mark.parametrize(("kind", "method"), OF)
def test_two_steps_of_the_real_loop(
    trained: Callable[[str, str], Path], kind: str, method: str
) -> None:
    folder = trained(kind, method)
    result = read_result(folder)
    assert result["steps"] == 2
    found = load_trained(folder)
    count = count_parameters(found.card, found.spec.adapter, 2, found.spec.model.input_size)
    assert (count.trainable, count.total) == (result["trainable"], result["total"])
    heads = sum(p.numel() for part in classifier_parameters(found.model) for p in part.parameters())
    assert count.trainable == heads if method == "linear" else heads < count.trainable
    assert (count.share == 1) == (method == "full")
    assert {p.dtype for p in found.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("kind", "method"), OF)
def test_grad_cam_looks_into_what_was_tuned(
    trained: Callable[[str, str], Path], kind: str, method: str
) -> None:
    found = load_trained(trained(kind, method))
    size = SMALL[kind][2]
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    seen = explain(found.model, pixels, 0, method="grad-cam")
    assert seen.shape == (1, size, size)
    assert np.isfinite(seen).all()


@pytest.mark.parametrize("kind", SMALL)
def test_a_new_process_answers_alike(
    trained: Callable[[str, str], Path], radiographs: Path, tmp_path: Path, kind: str
) -> None:
    folders = [trained(kind, method) for method in TUNING_METHODS if method not in UNFIT[kind]]
    out = tmp_path / "scores.npz"
    code = f"""
import sys
import numpy as np
import torch
sys.path.insert(0, {str(ROOT)!r})
from tests.core.models.tuning import test_registry as matrix
torch.set_num_threads(1)
matrix.catalogue.BACKBONES.update(matrix.cards())
np.savez({str(out)!r}, **{{
    name: matrix.scores(matrix.Path(name), matrix.Path({str(radiographs)!r}))
    for name in {[str(one) for one in folders]!r}
}})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with np.load(out) as again:
        for folder in folders:
            with np.load(folder / "predictions" / "test.npz") as first:
                # The order of a sum may follow where a tensor lies in memory, hence the last bit.
                assert np.abs(first["scores"] - again[str(folder)]).max() < 2e-7, folder.name


def scores(folder: Path, radiographs: Path) -> Any:
    """Probabilities of the test split by a run's saved weights."""
    found = load_trained(folder)
    dataset = open_dataset("folder", radiographs)
    return found.probabilities(
        [read_image(dataset.path(one), found.side) for one in dataset.ids("test")]
    )


@pytest.mark.parametrize(
    ("kind", "method"), [(kind, name) for kind in SMALL for name in sorted(UNFIT[kind])]
)
def test_what_cannot_be_tuned_says_why(radiographs: Path, kind: str, method: str) -> None:
    asked = spec(radiographs, kind, method)
    with pytest.raises(ConfigurationError, match=r"cannot tune .*: (it adapts|they are)") as caught:
        count_parameters(backbone_card(kind), asked.adapter, 2, SMALL[kind][2])
    assert caught.value.remedy.startswith("Choose ")
    assert caught.value.field == "adapter.method"


@pytest.mark.parametrize("method", TUNING_METHODS)
def test_a_method_says_what_it_is(method: str) -> None:
    told = TUNING_METHODS[method]
    assert told.name == method
    assert told.sentence.endswith(".")
    assert set(told.options) <= AdapterSpec.model_fields.keys() - {"method"}
    filled = AdapterSpec(method=method).filled()
    for name, option in told.options.items():
        value = getattr(filled, name)
        assert option.label
        assert value is not None or option.default or name == "dropout"
        assert not option.choices or value in option.choices
    assert set(filled.own()) <= set(told.options)


def test_what_a_method_does_not_heed_is_refused() -> None:
    for method in TUNING_METHODS:
        for name, value in (("rate_ratio", 4.0), ("prompts", 5), ("last_blocks", 1)):
            if name in TUNING_METHODS[method].options:
                continue
            asked = AdapterSpec.model_validate({"method": method, name: value})
            with pytest.raises(ConfigurationError, match=name.replace("_", "-")) as caught:
                count_parameters(backbone_card("vit"), asked, 2, 32)
            assert caught.value.field == f"adapter.{name}"


def test_the_specification_left_no_trace_of_what_is_open() -> None:
    assert json.loads(AdapterSpec().model_dump_json()).keys() == {
        "method", "rank", "alpha", "dropout", "targets",
    }  # fmt: skip
