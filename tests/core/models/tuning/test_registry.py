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
from core.errors import ConfigurationError
from core.models.backbones.model_map import map_model
from core.models.backbones.registry import BACKBONES, backbone_card
from core.models.tuning.apply import count_parameters
from core.models.tuning.registry import TUNING_METHODS
from core.reporter import NullReporter
from core.saliency.explain import explain
from core.training.loop import fine_tune
from tests.support.method_matrix import NETWORKS, SUPPORTED, TRAINED, UNSUPPORTED, cards
from tests.support.paths import ROOT

Trained = Callable[[str, str], Path]

PREDICT = """
import sys
from pathlib import Path

import numpy as np
import torch

from core.models.backbones.registry import BACKBONES
from tests.support.method_matrix import cards, probabilities

torch.set_num_threads(1)
BACKBONES.update(cards())
radiographs, out, *runs = map(Path, sys.argv[1:])
np.savez(out, **{str(run): probabilities(run, radiographs) for run in runs})
"""


@pytest.fixture(scope="module", autouse=True)
def _small_backbones() -> Iterator[None]:
    BACKBONES.update(cards())
    yield
    for network in NETWORKS:
        del BACKBONES[network]


@pytest.fixture(scope="module")
def trained(radiographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The folder of a run of two steps, trained once; all runs share a cache."""
    root = tmp_path_factory.mktemp("matrix")

    def folder(network: str, method: str) -> Path:
        run = root / f"{network}-{method}"
        if not run.exists():
            fine_tune(spec(radiographs, network, method), run, root / "cache", NullReporter())
        return run

    return folder


def spec(root: Path, network: str, method: str, **more: Any) -> RunSpec:
    _, _, size, targets = NETWORKS[network]
    fields = {
        "data.name": "folder",
        "data.root": root,
        "data.label_fraction": 1.0,
        "model.backbone": network,
        "model.pretrained": False,
        "model.input_size": size,
        "adapter.method": method,
        "adapter.targets": targets,
        "train.epochs": 1,
        "train.batch_size": 20,
        "train.device": "cpu",
        "train.precision": "fp32",  # because results are compared to the last digits
    }
    return RunSpec.of(**{**fields, **more})


@pytest.mark.slow
@pytest.mark.parametrize(("network", "method"), TRAINED)
def test_two_steps_of_the_training_loop(trained: Trained, network: str, method: str) -> None:
    folder = trained(network, method)
    result = read_result(folder)
    assert result["steps"] == 2
    run = load_trained(folder)
    count = count_parameters(run.card, run.spec.adapter, 2, run.spec.model.input_size)
    assert (count.trainable, count.total) == (result["trainable"], result["total"])
    classifier = map_model(run.model).classifier.values()
    heads = sum(p.numel() for module in classifier for p in module.parameters())
    head_only = TUNING_METHODS[method].frozen_backbone
    assert count.trainable == heads if head_only else heads < count.trainable
    assert (count.share == 1) == (method == "full")
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("network", "method"), [pair for pair in SUPPORTED if pair[1] != "pixels"])
def test_grad_cam_explains_the_tuned_model(trained: Trained, network: str, method: str) -> None:
    run = load_trained(trained(network, method))
    size = NETWORKS[network][2]
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    maps = explain(run.model, pixels, 0, method="grad-cam")
    assert maps.shape == (1, size, size)
    assert np.isfinite(maps).all()


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_a_new_process_gives_the_same_probabilities(
    trained: Trained, radiographs: Path, tmp_path: Path, network: str
) -> None:
    methods = [method for name, method in SUPPORTED if name == network]
    runs = [trained(network, method) for method in methods]
    out = tmp_path / "probabilities.npz"
    subprocess.run(
        [sys.executable, "-c", PREDICT, str(radiographs), str(out), *map(str, runs)],
        check=True,
        cwd=ROOT,
    )
    with np.load(out) as again:
        for run in runs:
            with np.load(run / "predictions" / "test.npz") as first:
                # The order of summation can depend on memory alignment, hence the last bit.
                assert np.abs(first["scores"] - again[str(run)]).max() < 2e-7, run.name


@pytest.mark.parametrize(
    ("network", "method"),
    [(network, method) for network in NETWORKS for method in sorted(UNSUPPORTED[network])],
)
def test_an_unsupported_network_is_rejected_with_a_reason(
    radiographs: Path, network: str, method: str
) -> None:
    adapter = spec(radiographs, network, method).adapter
    with pytest.raises(ConfigurationError, match=r"cannot tune .*: (it adapts|they are)") as caught:
        count_parameters(backbone_card(network), adapter, 2, NETWORKS[network][2])
    assert caught.value.remedy.startswith("Choose ")
    assert caught.value.field == "adapter.method"


@pytest.mark.parametrize("name", TUNING_METHODS)
def test_a_method_is_described_with_its_settings(name: str) -> None:
    method = TUNING_METHODS[name]
    assert method.name == name
    assert method.sentence.endswith(".")
    assert set(method.options) <= AdapterSpec.model_fields.keys() - {"method"}
    filled = AdapterSpec(method=name).filled()
    for field, option in method.options.items():
        value = getattr(filled, field)
        assert option.label
        assert value is not None or option.default or field == "dropout"
        assert not option.choices or (value or option.default) in option.choices
    assert set(filled.own()) <= set(method.options)


def test_settings_that_a_method_does_not_support_are_rejected() -> None:
    for method in TUNING_METHODS:
        for name, value in (("rate_ratio", 4.0), ("prompts", 5), ("last_blocks", 1)):
            if name in TUNING_METHODS[method].options:
                continue
            adapter = AdapterSpec.model_validate({"method": method, name: value})
            with pytest.raises(ConfigurationError, match=name.replace("_", "-")) as caught:
                count_parameters(backbone_card("vit"), adapter, 2, 32)
            assert caught.value.field == f"adapter.{name}"


def test_the_specification_omits_settings_that_are_not_set() -> None:
    assert json.loads(AdapterSpec().model_dump_json()).keys() == {
        "method", "rank", "alpha", "dropout", "targets",
    }  # fmt: skip
