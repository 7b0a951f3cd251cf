"""What a run has never seen is far from its validation pictures; what it has is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from core.classifier.build import build_classifier, evaluation_transform
from core.classifier.trained import Trained
from core.config.run import RunSpec
from core.data.cache.image_cache import cache_side
from core.data.datasets.nih import Nih
from core.data.images.reader import read_image
from core.data.phantoms.dataset import Phantom
from core.errors import DataError
from core.saliency import out_of_distribution

SIDE = 64
Pictures = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """The embedded backbone with a head that was not trained, on small pictures."""
    spec = RunSpec.of(**{"model.input_size": SIDE}).resolved()
    classifier = build_classifier(spec, 1, adapted=False)
    card, model = classifier.card, classifier.model
    return Trained(
        model.eval(), card, spec, ("Mass",), evaluation_transform(card, SIDE), cache_side(SIDE)
    )


@pytest.fixture(scope="module")
def phantoms() -> Callable[[str, int], Pictures]:
    drawn = Phantom("phantom-14", train=4, val=24, test=8, size=SIDE)
    return lambda split, count: [drawn.read(one) for one in drawn.ids(split)[:count]]


def temple() -> NDArray[np.uint8]:
    """A photograph that scikit-learn brings along."""
    from sklearn.datasets import load_sample_image

    return np.asarray(Image.fromarray(load_sample_image("china.jpg")).convert("L"))


def test_a_photograph_is_unlike_and_another_phantom_is_not(trained, phantoms) -> None:
    known = out_of_distribution.familiar(trained, phantoms("val", 24))
    assert known.threshold > known.largest > 0
    assert out_of_distribution.likeness(trained, known, temple()).unlike
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    assert out_of_distribution.likeness(trained, known, noise).unlike
    for one in phantoms("test", 4):
        assert not out_of_distribution.likeness(trained, known, one).unlike
    first = out_of_distribution.likeness(trained, known, phantoms("val", 1)[0])
    assert first.distance < known.largest


def test_features_have_unit_length_and_leave_no_hook(trained, phantoms) -> None:
    pictures = phantoms("val", 5)
    found = out_of_distribution.features(trained, pictures, batch=2)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, out_of_distribution.features(trained, pictures), atol=1e-5)
    assert not any(module._forward_hooks for module in trained.model.modules())
    assert all(torch.isfinite(weight).all() for weight in trained.model.parameters())


def test_too_few_pictures_are_no_reference(trained, phantoms) -> None:
    with pytest.raises(DataError, match="9 validation pictures do not tell"):
        out_of_distribution.familiar(trained, phantoms("val", 9))


@pytest.mark.real
def test_another_hospital_is_not_unlike_and_a_temple_is(trained, real_data: Path) -> None:
    nih = Nih(real_data / "nih_chestxray14")
    known = out_of_distribution.familiar(trained, [nih.read(one) for one in nih.ids("val")[:48]])
    children = sorted((real_data / "kermany_pneumonia" / "train" / "NORMAL").glob("*.jpeg"))
    unlike = [
        out_of_distribution.likeness(trained, known, read_image(one)).unlike
        for one in children[::120]
    ]
    assert len(unlike) >= 10
    assert np.mean(unlike) <= 0.2
    assert out_of_distribution.likeness(trained, known, temple()).unlike
