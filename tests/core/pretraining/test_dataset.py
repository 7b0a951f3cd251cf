"""The order in which images and reports are sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.errors import DataError
from core.pretraining.dataset import Records

IMAGES = np.arange(6, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)


def seen(records: Records, steps: int, size: int, seed: int = 0) -> list[int]:
    drawn = [records.draw(step, size, seed)[0] for step in range(steps)]
    return [int(one[0, 0]) for part in drawn for one in part]


def test_an_epoch_repeats_each_image_as_requested() -> None:
    records = Records(IMAGES, np.array([1, 1, 1, 2, 3, 0]))
    counts = np.bincount(seen(records, 4, 4), minlength=6)
    assert counts.tolist() == [2, 2, 2, 4, 6, 0]


def test_a_step_does_not_depend_on_earlier_steps() -> None:
    whole = seen(Records(IMAGES), 9, 4)
    later = Records(IMAGES).draw(7, 4, 0)[0]
    assert [int(one[0, 0]) for one in later] == whole[28:32]
    assert whole != seen(Records(IMAGES), 9, 4, seed=1)


def test_words_belong_to_their_images() -> None:
    reports = ["a a"] * 3 + ["b b"] * 2 + [""]
    records = Records(IMAGES, reports=reports)
    images, words, maps = records.draw(0, 6, 0)
    assert maps is None
    assert words is not None
    assert records.reported == 5
    for image, line in zip(images, words, strict=True):
        assert torch.equal(line, records.words[int(image[0, 0])])  # type: ignore[index]


def test_digests_depend_on_images_repetitions_and_reports() -> None:
    once = Records(IMAGES).digests()
    assert once == Records(IMAGES.copy()).digests()
    assert once["images"] != Records(IMAGES, np.full(6, 2)).digests()["images"]
    assert once["images"] != Records(IMAGES[:5]).digests()["images"]
    a, b = (Records(IMAGES, reports=[word] * 6).digests()["reports"] for word in ("a", "a a"))
    assert a != b


def test_each_image_needs_a_report() -> None:
    with pytest.raises(DataError, match="6 images and 2 reports"):
        Records(IMAGES, reports=["a", "b"])
