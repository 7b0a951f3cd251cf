"""Secondary captures: pixels, header, no patient identifiers, and reading by other software."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID

from core.data.images.reader import read_image
from core.errors import DataError
from core.formatting import DISCLAIMER
from core.saliency.dicom_export import Legend, overlay, secondary_capture

LEGEND = Legend("LoRA r 4", "Pleural_Thickening", 0.73, "Grad-CAM", "norm1", "a × b", 0.2)
GREY = np.tile(np.arange(0, 160, 2, dtype=np.uint8), (60, 1))


def written(grey: np.ndarray = GREY, *, clean: bool = True) -> bytes:
    heat = np.zeros(grey.shape, np.float32)
    heat[:10, :10] = 0.2
    return secondary_capture(overlay(grey, heat, LEGEND.lines()), LEGEND, clean=clean)


def test_it_is_valid_and_describes_the_derivation() -> None:
    settings = pydicom.config.settings
    before = settings.reading_validation_mode
    settings.reading_validation_mode = pydicom.config.RAISE
    try:
        file = pydicom.dcmread(io.BytesIO(written()))
        for element in file.iterall():
            assert element.keyword or element.tag.is_private
    finally:
        settings.reading_validation_mode = before
    pydicom.dataset.validate_file_meta(file.file_meta)
    assert UID(file.SOPClassUID).name == "Secondary Capture Image Storage"
    assert file.ImageType == ["DERIVED", "SECONDARY"]
    for part in ("Grad-CAM", "norm1", "Pleural Thickening", "0.73", "LoRA r 4", DISCLAIMER):
        assert part in file.DerivationDescription, part
    assert (file.BurnedInAnnotation, file.PatientIdentityRemoved) == ("NO", "YES")
    assert file.pixel_array.shape == (file.Rows, file.Columns, 3)


def test_nothing_identifies_the_patient() -> None:
    file = pydicom.dcmread(io.BytesIO(written(clean=False)))
    assert not [item.keyword for item in file if item.tag.group == 0x0010 and item.value]
    assert "BurnedInAnnotation" not in file
    for keyword in ("StudyDate", "AccessionNumber", "ReferringPhysicianName", "InstitutionName"):
        assert not file.get(keyword), keyword
    other = pydicom.dcmread(io.BytesIO(written()))
    assert other.SOPInstanceUID != file.SOPInstanceUID


def test_the_disclaimer_is_below_the_image_and_the_map_over_it() -> None:
    shown = overlay(GREY, None, [DISCLAIMER])
    plain = overlay(GREY, None, [])
    assert shown.shape[0] > plain.shape[0]
    height = round(60 * 512 / 80)
    np.testing.assert_array_equal(shown[:height], plain[:height])
    assert (shown[height:] > 200).sum() > 300
    heat = np.full(GREY.shape, np.nan, np.float32)
    heat[:20, :20] = 1
    tinted = overlay(GREY, heat, [])
    assert np.ptp(tinted[20, 20].astype(int)) > 40
    assert np.ptp(tinted[height - 20, 300].astype(int)) == 0


@pytest.mark.parametrize("size", [(10, 10), (2400, 3000)])
def test_captures_are_neither_too_small_nor_too_large(size: tuple[int, int]) -> None:
    found = overlay(np.zeros(size, np.uint8), None, LEGEND.lines())
    assert 512 <= max(found.shape[:2]) <= 2048 * 1.2


def test_captures_can_be_read_and_maps_must_fit_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(written())
    assert read_image(path).shape == overlay(GREY, None, LEGEND.lines()).shape[:2]
    with pytest.raises(DataError, match="The map has the shape"):
        overlay(GREY, np.ones((3, 3), np.float32), [])


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="apt-get install dicom3tools")
def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(written())
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert not [one for one in done.stderr.splitlines() if one.startswith("Error")], done.stderr
    assert "SCImage" in done.stderr
