"""The order in which pictures are seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.errors import DataError
from core.pretraining.dataset import Records

PICTURES = np.arange(6, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)


def seen(records: Records, steps: int, size: int, seed: int = 0) -> list[int]:
    drawn = [records.draw(step, size, seed)[0] for step in range(steps)]
    return [int(one[0, 0]) for part in drawn for one in part]


def test_an_epoch_shows_each_picture_as_often_as_wanted() -> None:
    records = Records(PICTURES, np.array([1, 1, 1, 2, 3, 0]))
    counts = np.bincount(seen(records, 4, 4), minlength=6)
    assert counts.tolist() == [2, 2, 2, 4, 6, 0]


def test_a_step_does_not_depend_on_those_before_it() -> None:
    whole = seen(Records(PICTURES), 9, 4)
    later = Records(PICTURES).draw(7, 4, 0)[0]
    assert [int(one[0, 0]) for one in later] == whole[28:32]
    assert whole != seen(Records(PICTURES), 9, 4, seed=1)


def test_words_follow_their_pictures() -> None:
    reports = ["a a"] * 3 + ["b b"] * 2 + [""]
    records = Records(PICTURES, reports=reports)
    pictures, words = records.draw(0, 6, 0)
    assert words is not None
    assert records.reported == 5
    for picture, line in zip(pictures, words, strict=True):
        assert torch.equal(line, records.words[int(picture[0, 0])])  # type: ignore[index]


def test_the_digest_tells_pictures_repeats_and_reports_apart() -> None:
    once = Records(PICTURES).digests()
    assert once == Records(PICTURES.copy()).digests()
    assert once["images"] != Records(PICTURES, np.full(6, 2)).digests()["images"]
    assert once["images"] != Records(PICTURES[:5]).digests()["images"]
    a, b = (Records(PICTURES, reports=[word] * 6).digests()["reports"] for word in ("a", "a a"))
    assert a != b


def test_one_report_a_picture() -> None:
    with pytest.raises(DataError, match="6 pictures and 2 reports"):
        Records(PICTURES, reports=["a", "b"])
