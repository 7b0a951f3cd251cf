"""A folder of images without labels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data.datasets.unlabelled import Unlabelled
from core.errors import DataError


def test_all_images_are_for_training_and_have_no_findings(tmp_path: Path) -> None:
    for name in ("a.png", "below/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 9), 7, np.uint8)).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("no image")
    images = Unlabelled(tmp_path)
    assert sorted(images.ids("train")) == ["a.png", "below/b.png"]
    assert not images.ids("val") + images.ids("test")
    assert images.labels(images.ids("train")).shape == (2, 0)
    assert (images.read("below/b.png") == 7).all()
    assert images.study("a.png").findings == {}


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no image"):
        Unlabelled(tmp_path)
