"""Pictures for pre-training: which are taken, how often, and which never."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data.datasets.custom_folder import Folder
from core.data.phantoms.dataset import Phantom
from core.errors import ConfigurationError
from core.pretraining import collect_images
from core.pretraining.masked_autoencoder import Features, MaskedAutoencoder

SIDE = 36


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Radiographs of twenty patients, each one's own."""
    phantoms = Phantom("phantom-1", seed=9, train=20, val=1, test=1, size=64)
    return [phantoms.read(one) for one in phantoms.ids("train")]


def folder(root: Path, splits: dict[str, list[np.ndarray]]) -> Folder:
    for split, images in splits.items():
        for i, image in enumerate(images):
            path = root / split / ("normal" if i % 2 else "ill") / f"{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return Folder(root)


def test_only_training_pictures_are_taken(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    own = folder(
        tmp_path / "own", {"train": pictures[:8], "val": pictures[8:10], "test": pictures[10:12]}
    )
    taken = collect_images.collect(None, [own], tmp_path / "cache", SIDE)
    assert taken.pictures.shape == (8, SIDE, SIDE)
    assert taken.times.tolist() == [1] * 8
    assert taken.reports is None
    (told,) = taken.sets
    assert (told["name"], told["pictures"], told["left_out"]) == ("folder", 8, 0)
    assert told["split"].startswith("train of")


def test_what_another_set_holds_out_is_left_out(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    # The second set tests on two pictures that the first one trains on, and shares three others.
    one = folder(
        tmp_path / "one", {"train": pictures[:8], "val": pictures[8:10], "test": pictures[10:12]}
    )
    other = folder(
        tmp_path / "other",
        {"train": pictures[3:6] + pictures[14:16], "val": pictures[12:14], "test": pictures[:2]},
    )
    taken = collect_images.collect(None, [one, other], tmp_path / "cache", SIDE)
    first, second = taken.sets
    assert (first["pictures"], first["left_out"]) == (6, 2)
    assert (second["pictures"], second["left_out"]) == (2, 3)


def test_real_pictures_make_up_their_share(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    large = folder(
        tmp_path / "large", {"train": pictures[:8], "val": pictures[8:10], "test": pictures[10:12]}
    )
    small = folder(
        tmp_path / "small",
        {"train": pictures[12:14], "val": pictures[14:16], "test": pictures[16:18]},
    )
    taken = collect_images.collect(
        collect_images.phantoms(24),
        [large, small],
        tmp_path / "cache",
        SIDE,
        share=0.6,
        reports=True,
    )
    shares = [told["share"] for told in taken.sets]
    assert sum(shares) == pytest.approx(1, abs=0.01)
    assert shares[0] == pytest.approx(0.4, abs=0.05)
    assert shares[1] == pytest.approx(2 * shares[2], abs=0.05)  # as the roots of 8 and 2
    assert taken.times.sum() * shares[0] == pytest.approx(24, abs=0.1)
    assert taken.reports is not None
    assert [bool(one) for one in taken.reports] == [True] * 24 + [False] * 10


def test_nothing_and_senseless_shares_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs pictures"):
        collect_images.collect(None, [], tmp_path, SIDE)
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        collect_images.collect(collect_images.phantoms(2), [], tmp_path, SIDE, share=1.0)


def test_a_readout_scores_a_set_of_ones_own(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    own = folder(
        tmp_path / "own", {"train": pictures[:10], "val": pictures[10:16], "test": pictures[16:]}
    )
    model = MaskedAutoencoder(
        "test_vit", 32, masked=0.5, predicted=0.5, decoder_width=32, decoder_depth=1,
        variance_floor=0.001,
    )  # fmt: skip
    score = collect_images.readout(tmp_path / "cache", 32, own)(Features(model.encoder))
    assert 0 <= score <= 1
