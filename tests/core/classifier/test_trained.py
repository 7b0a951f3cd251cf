"""The model of a finished run, loaded again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.classifier import trained
from core.errors import DataError, ModelError
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.reporter import NullReporter
from core.training.loop import fine_tune


def test_a_run_without_weights_or_result_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights yet"):
        trained.load_trained(tmp_path)
    with pytest.raises(DataError, match="no result yet"):
        trained.read_result(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear", "full"])
def test_frozen_weights_have_to_be_those_of_the_run(tiny, tmp_path: Path, method: str) -> None:
    weights = tmp_path / "own.pth"
    state = network(backbone_card("timm:test_vit"), 2, 64).state_dict()
    torch.save(state, weights)
    folder = tmp_path / "run"
    spec = tiny(
        model__pretrained=True, model__weights=weights, adapter__method=method, train__epochs=1
    )
    result = fine_tune(spec, folder, tmp_path / "cache", NullReporter())
    assert trained.read_result(folder) == result
    found = trained.load_trained(folder)
    assert found.spec == spec.resolved()
    assert not found.model.training
    assert found.finding("Plate") == 1
    with pytest.raises(DataError, match="Its findings are: Pneumonia, Plate"):
        found.finding("Hernia")
    image = np.random.default_rng(0).integers(0, 256, (90, 70), np.uint8)
    before = found.probabilities([image, image.T.copy()])
    assert before.shape == (2, 2)
    assert ((before > 0) & (before < 1)).all()

    name = "blocks.0.norm1.weight"
    torch.save(state | {name: state[name] * 2}, weights)
    if method == "full":
        assert np.array_equal(trained.load_trained(folder).probabilities([image]), before[:1])
        return
    with pytest.raises(ModelError, match="have changed since"):
        trained.load_trained(folder)
