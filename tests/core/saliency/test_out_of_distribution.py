"""Images unlike a run's validation images are out of distribution; similar ones are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from core.classifier.build import evaluation_transform, untuned
from core.classifier.trained import Trained
from core.config.run import RunSpec
from core.data.cache.image_cache import cache_side
from core.data.datasets.nih import Nih
from core.data.images.reader import read_image
from core.data.phantoms.dataset import Phantom
from core.errors import DataError
from core.saliency import out_of_distribution

SIDE = 64
Images = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """The embedded backbone with an untrained head, for small images."""
    spec = RunSpec.of(**{"model.input_size": SIDE})
    card, model, _ = untuned(spec, 1)
    return Trained(
        model.eval(), card, spec, ("Mass",), evaluation_transform(card, SIDE), cache_side(SIDE)
    )


@pytest.fixture(scope="module")
def phantoms() -> Callable[[str, int], Images]:
    drawn = Phantom("phantom-14", train=4, val=24, test=8, size=SIDE)
    return lambda split, count: [drawn.read(one) for one in drawn.ids(split)[:count]]


def temple() -> NDArray[np.uint8]:
    """A photograph of scikit-learn."""
    from sklearn.datasets import load_sample_image

    return np.asarray(Image.fromarray(load_sample_image("china.jpg")).convert("L"))


def test_a_photograph_is_out_of_distribution_and_another_phantom_is_not(trained, phantoms) -> None:
    reference = out_of_distribution.fit(trained, phantoms("val", 24))
    assert reference.threshold > reference.largest > 0
    assert out_of_distribution.score(trained, reference, temple()).is_out
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    assert out_of_distribution.score(trained, reference, noise).is_out
    for one in phantoms("test", 4):
        assert not out_of_distribution.score(trained, reference, one).is_out
    first = out_of_distribution.score(trained, reference, phantoms("val", 1)[0])
    assert first.distance < reference.largest


def test_features_have_unit_length_and_leave_no_hook(trained, phantoms) -> None:
    images = phantoms("val", 5)
    found = out_of_distribution.features(trained, images, batch=2)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, out_of_distribution.features(trained, images), atol=1e-5)
    assert not any(module._forward_hooks for module in trained.model.modules())
    assert all(torch.isfinite(weight).all() for weight in trained.model.parameters())


def test_a_reference_needs_ten_images(trained, phantoms) -> None:
    with pytest.raises(DataError, match="9 validation images are too few"):
        out_of_distribution.fit(trained, phantoms("val", 9))


@pytest.mark.real
def test_radiographs_of_another_hospital_are_in_distribution(trained, real_data: Path) -> None:
    nih = Nih(real_data / "nih_chestxray14")
    reference = out_of_distribution.fit(trained, [nih.read(one) for one in nih.ids("val")[:48]])
    children = sorted((real_data / "kermany_pneumonia" / "train" / "NORMAL").glob("*.jpeg"))
    is_out = [
        out_of_distribution.score(trained, reference, read_image(one)).is_out
        for one in children[::120]
    ]
    assert len(is_out) >= 10
    assert np.mean(is_out) <= 0.2
    assert out_of_distribution.score(trained, reference, temple()).is_out
