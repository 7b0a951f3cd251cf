"""What is written out is opened again as a folder of one's own, with the same pixels and labels."""

from pathlib import Path

import numpy as np
import pytest

from core.data.datasets.registry import open_dataset
from core.data.datasets.write_folder import TABLE, save
from core.data.phantoms.dataset import Phantom
from core.errors import DataError


def test_a_saved_set_opens_as_a_folder(tmp_path: Path) -> None:
    drawn = Phantom("phantom-5", size=64, train=4, val=2, test=3)
    opened = open_dataset("folder", save(drawn, tmp_path / "mine"))
    assert opened.findings == drawn.findings
    for split in ("train", "val", "test"):
        ids = drawn.ids(split)
        assert opened.ids(split) == [f"{one}.png" for one in ids]
        np.testing.assert_array_equal(opened.labels(opened.ids(split)), drawn.labels(ids))
    one = drawn.ids("test")[0]
    np.testing.assert_array_equal(opened.read(f"{one}.png"), drawn.read(one))
    assert opened.study(f"{one}.png").patient == drawn.study(one).patient


def test_a_finished_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text("mine")
    save(Phantom("phantom-1", size=64, train=1, val=1, test=1), tmp_path)
    assert (tmp_path / TABLE).read_text() == "mine"


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        save(Phantom("phantom-1", size=64, train=1, val=1, test=1), tmp_path / "file" / "below")
