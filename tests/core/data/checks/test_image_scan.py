"""Images that look alike."""

from __future__ import annotations

import numpy as np

from core.data.checks import image_scan
from core.data.images.grey import resize
from core.data.phantoms.dataset import Phantom


def test_what_looks_like_a_known_image_or_an_earlier_one_is_left_out() -> None:
    phantoms = Phantom("phantom-1", seed=4, train=6, val=1, test=1)
    images = [phantoms.read(one) for one in phantoms.ids("train")]
    brighter = np.clip(images[0].astype(int) + 6, 0, 255).astype(np.uint8)
    hashes = [image_scan.perceptual_hash(one) for one in images]
    again = [image_scan.perceptual_hash(one) for one in (resize(images[1], 144), brighter)]
    assert image_scan.distinct(hashes, []) == list(range(6))
    assert image_scan.distinct(hashes, again) == [2, 3, 4, 5]
    assert image_scan.distinct([hashes[2], *hashes], again) == [0, 4, 5, 6]
    assert image_scan.distinct([], hashes) == []
