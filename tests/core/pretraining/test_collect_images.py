"""Images for pre-training: which are used, how often, and which are left out."""

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
def radiographs() -> list[np.ndarray]:
    """Radiographs of twenty different patients."""
    phantoms = Phantom("phantom-1", seed=9, train=20, val=1, test=1, size=64)
    return [phantoms.read(one) for one in phantoms.ids("train")]


def folder(root: Path, splits: dict[str, list[np.ndarray]]) -> Folder:
    for split, images in splits.items():
        for i, image in enumerate(images):
            path = root / split / ("normal" if i % 2 else "ill") / f"{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return Folder(root)


def test_only_training_images_are_used(tmp_path: Path, radiographs: list[np.ndarray]) -> None:
    own = folder(
        tmp_path / "own",
        {"train": radiographs[:8], "val": radiographs[8:10], "test": radiographs[10:12]},
    )
    collection = collect_images.collect(None, [own], tmp_path / "cache", SIDE)
    assert collection.images.shape == (8, SIDE, SIDE)
    assert collection.times.tolist() == [1] * 8
    assert collection.reports is None
    (record,) = collection.sets
    assert (record["name"], record["pictures"], record["left_out"]) == ("folder", 8, 0)
    assert record["split"].startswith("train of")


def test_held_out_images_of_another_set_are_left_out(
    tmp_path: Path, radiographs: list[np.ndarray]
) -> None:
    # Two test images of the second set are training images of the first; three more are shared.
    one = folder(
        tmp_path / "one",
        {"train": radiographs[:8], "val": radiographs[8:10], "test": radiographs[10:12]},
    )
    other = folder(
        tmp_path / "other",
        {
            "train": radiographs[3:6] + radiographs[14:16],
            "val": radiographs[12:14],
            "test": radiographs[:2],
        },
    )
    collection = collect_images.collect(None, [one, other], tmp_path / "cache", SIDE)
    first, second = collection.sets
    assert (first["pictures"], first["left_out"]) == (6, 2)
    assert (second["pictures"], second["left_out"]) == (2, 3)


def test_real_images_have_the_requested_share(
    tmp_path: Path, radiographs: list[np.ndarray]
) -> None:
    large = folder(
        tmp_path / "large",
        {"train": radiographs[:8], "val": radiographs[8:10], "test": radiographs[10:12]},
    )
    small = folder(
        tmp_path / "small",
        {"train": radiographs[12:14], "val": radiographs[14:16], "test": radiographs[16:18]},
    )
    collection = collect_images.collect(
        collect_images.phantoms(24),
        [large, small],
        tmp_path / "cache",
        SIDE,
        share=0.6,
        reports=True,
    )
    shares = [record["share"] for record in collection.sets]
    assert sum(shares) == pytest.approx(1, abs=0.01)
    assert shares[0] == pytest.approx(0.4, abs=0.05)
    assert shares[1] == pytest.approx(2 * shares[2], abs=0.05)  # as the roots of 8 and 2
    assert collection.times.sum() * shares[0] == pytest.approx(24, abs=0.1)
    assert collection.reports is not None
    assert [bool(report) for report in collection.reports] == [True] * 24 + [False] * 10


def test_no_images_and_invalid_shares_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs images"):
        collect_images.collect(None, [], tmp_path, SIDE)
    with pytest.raises(ConfigurationError, match="must be between 0 and 1"):
        collect_images.collect(collect_images.phantoms(2), [], tmp_path, SIDE, share=1.0)


def test_a_probe_scores_a_folder_of_images(tmp_path: Path, radiographs: list[np.ndarray]) -> None:
    own = folder(
        tmp_path / "own",
        {"train": radiographs[:10], "val": radiographs[10:16], "test": radiographs[16:]},
    )
    model = MaskedAutoencoder(
        "test_vit", 32, masked=0.5, predicted=0.5, decoder_width=32, decoder_depth=1,
        variance_floor=0.001,
    )  # fmt: skip
    score = collect_images.make_probe(tmp_path / "cache", 32, own)(Features(model.encoder))
    assert 0 <= score <= 1
