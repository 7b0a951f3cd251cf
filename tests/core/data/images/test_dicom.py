"""DICOM as scanners and archives really write it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.pixels import pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian

from core.data.images.dicom import StudyAttributes, read_attributes
from core.data.images.grey import resize
from core.data.images.reader import read_image
from core.errors import DataError
from tests.support.layouts import body_image, save_dicom

GREY = body_image(3)
RAMP = np.tile(np.arange(0, 4096, 16, dtype=np.uint16), (64, 1))


def made(tmp_path: Path, pixels: Any = GREY, **options: Any) -> Path:
    path = tmp_path / "a.dcm"
    save_dicom(path, pixels, **options)
    return path


def shown(tmp_path: Path, pixels: Any = RAMP, **options: Any) -> Any:
    return read_image(made(tmp_path, pixels, **options)).astype(int)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("jpeg", [False, True])
def test_eight_bits_are_shown_as_they_are_and_air_is_black(
    tmp_path: Path, inverted: bool, jpeg: bool
) -> None:
    found = shown(tmp_path, GREY, inverted=inverted, jpeg=jpeg)
    assert np.abs(found - GREY).mean() <= (3 if jpeg else 0)


@pytest.mark.parametrize("inverted", [False, True])
def test_a_jpeg_read_small_looks_like_one_resized(tmp_path: Path, inverted: bool) -> None:
    file = made(tmp_path, body_image(3, 400, 500), inverted=inverted, jpeg=True)
    small = read_image(file, 50)
    assert small.shape == (50, 62)
    assert np.abs(small.astype(int) - resize(read_image(file), 50)).max() <= 12


def test_a_jpeg_is_decoded_as_the_reference_decoder_does(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 80), dtype=np.uint8)
    file = made(tmp_path, noise, jpeg=True)
    reference = pixel_array(pydicom.dcmread(file), decoding_plugin="pylibjpeg")
    assert np.abs(read_image(file).astype(int) - reference).max() <= 2


def test_content_without_a_name_is_recognised(tmp_path: Path) -> None:
    assert np.array_equal(read_image(made(tmp_path).read_bytes()), GREY)


def test_a_window_is_applied_as_the_standard_says(tmp_path: Path) -> None:
    found = shown(tmp_path, WindowCenter=2048, WindowWidth=1024)
    expected = ((RAMP.astype(float) - 2047.5) / 1023 + 0.5).clip(0, 1) * 255
    assert np.abs(found - expected).max() <= 0.5


def test_the_first_of_several_windows_counts(tmp_path: Path) -> None:
    several = shown(tmp_path, WindowCenter=[2048, 100], WindowWidth=[1024, 50])
    assert np.array_equal(several, shown(tmp_path, WindowCenter=2048, WindowWidth=1024))


def test_sigmoid_and_exact_windows(tmp_path: Path) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 1024}
    sigmoid = shown(tmp_path, VOILUTFunction="SIGMOID", **window)
    expected = 255 / (1 + np.exp(-4 * (RAMP.astype(float) - 2048) / 1024))
    assert np.abs(sigmoid - expected).max() <= 0.5
    exact = shown(tmp_path, VOILUTFunction="LINEAR_EXACT", **window)
    assert np.abs(exact - ((RAMP.astype(float) - 1536) / 1024).clip(0, 1) * 255).max() <= 0.5


def test_rescale_comes_before_the_window(tmp_path: Path) -> None:
    rescaled = shown(
        tmp_path, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3096, WindowWidth=2048
    )
    assert np.abs(rescaled - shown(tmp_path, WindowCenter=2048, WindowWidth=1024)).max() <= 1


def test_without_a_window_the_used_range_is_stretched(tmp_path: Path) -> None:
    found = shown(tmp_path)
    assert (found[0, 0], found[0, -1]) == (0, 255)


@pytest.mark.parametrize("window", [
    {"WindowCenter": 2048, "WindowWidth": 0}, {"WindowCenter": 2048}, {"WindowCenter": "",
    "WindowWidth": ""},
])  # fmt: skip
def test_a_senseless_window_counts_as_none(tmp_path: Path, window: dict[str, Any]) -> None:
    assert np.array_equal(shown(tmp_path, **window), shown(tmp_path))


def test_monochrome1_is_inverted_after_the_window(tmp_path: Path) -> None:
    window = {"WindowCenter": 1000, "WindowWidth": 1024}
    plain = shown(tmp_path, RAMP, **window)
    inverted = shown(tmp_path, RAMP, PhotometricInterpretation="MONOCHROME1", **window)
    assert np.array_equal(inverted, 255 - plain)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("packed", [False, True])
def test_a_voi_table_is_looked_up(tmp_path: Path, bits: int, packed: bool) -> None:
    values = (np.arange(4096) // 32 + 100).astype(np.uint16) << (bits - 8)
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, bits]
    table["LUTDescriptor"].VR = "US"
    if packed:
        table.LUTData = values.astype(np.uint8 if bits == 8 else "<u2").tobytes()
        table["LUTData"].VR = "OW"
    else:
        table.LUTData = values.tolist()
        table["LUTData"].VR = "US"
    found = shown(tmp_path, VOILUTSequence=[table])
    assert np.abs(found - (RAMP // 32 + 100)).max() <= 1


def test_a_modality_table_comes_before_the_window(tmp_path: Path) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = (2 * np.arange(4096)).tolist()
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    found = shown(tmp_path, ModalityLUTSequence=[table], WindowCenter=4096, WindowWidth=2048)
    assert np.abs(found - shown(tmp_path, WindowCenter=2048, WindowWidth=1024)).max() <= 1


def test_signed_values_and_padding(tmp_path: Path) -> None:
    signed = RAMP.astype(np.int16) - 2000
    signed[:5] = -32000
    found = shown(tmp_path, signed, PixelPaddingValue=-32000)
    assert not found[:5].any()
    assert np.array_equal(found[5:], shown(tmp_path, RAMP)[5:])
    bright = shown(tmp_path, signed, PixelPaddingValue=-32000,
                   PhotometricInterpretation="MONOCHROME1")  # fmt: skip
    assert not bright[:5].any(), "padding is outside of the patient, thus black"


def test_colour_becomes_luminance(tmp_path: Path) -> None:
    red = np.zeros((30, 40, 3), np.uint8)
    red[..., 0] = 200
    found = shown(tmp_path, red, SamplesPerPixel=3, PhotometricInterpretation="RGB",
                  PlanarConfiguration=0)  # fmt: skip
    assert np.abs(found - 60).max() <= 1


def test_only_sex_age_and_view_leave_the_header(tmp_path: Path) -> None:
    assert read_attributes(made(tmp_path)) == StudyAttributes("F", 49.0, "PA")
    assert read_attributes(
        made(tmp_path, PatientAge="018M", PatientSex="O", ViewPosition="LL")
    ) == StudyAttributes("", 1.5, "LATERAL")
    assert (
        read_attributes(made(tmp_path, PatientAge=None, PatientSex=None, ViewPosition="XY"))
        == StudyAttributes()
    )
    (tmp_path / "b.dcm").write_text("no DICOM")
    assert read_attributes(tmp_path / "b.dcm") == StudyAttributes()


# --- faults --------------------------------------------------------------------------------------


def refused(path: Path, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_image(path)
    assert caught.value.remedy
    assert "secret" not in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_no_pixels(tmp_path: Path) -> None:
    refused(made(tmp_path, PixelData=None), "contains no image")


def test_many_frames(tmp_path: Path) -> None:
    refused(made(tmp_path, np.stack([GREY] * 3), NumberOfFrames=3, Rows=GREY.shape[0],
                 Columns=GREY.shape[1]), "contains 3 frames")  # fmt: skip


@pytest.mark.parametrize("meaning", ["", "ARGB", "PALETTE COLOR", "RGB"])
def test_a_wrong_photometric_interpretation(tmp_path: Path, meaning: str) -> None:
    refused(made(tmp_path, PhotometricInterpretation=meaning), "photometric interpretation|damaged")


def test_an_unknown_transfer_syntax(tmp_path: Path) -> None:
    file = pydicom.dcmread(made(tmp_path, jpeg=True))
    for uid, name in (("1.2.840.10008.1.2.4.100", "MPEG2"), ("1.2.3.4.5", "not in the standard")):
        file.file_meta.TransferSyntaxUID = UID(uid)
        pydicom.dcmwrite(
            tmp_path / "b.dcm", file, implicit_vr=False, little_endian=True,
            enforce_file_format=True,
        )  # fmt: skip
        refused(tmp_path / "b.dcm", name)


def test_too_few_bytes_of_pixels(tmp_path: Path) -> None:
    refused(made(tmp_path, PixelData=GREY.tobytes()[:-200]), "damaged")


def test_sizes_that_are_lies(tmp_path: Path) -> None:
    refused(made(tmp_path, Rows=60_000, Columns=60_000), "claims")
    refused(made(tmp_path, Rows=None), "damaged")


def test_a_cut_off_file(tmp_path: Path) -> None:
    path = made(tmp_path, jpeg=True)
    whole = path.read_bytes()
    for share in (0.02, 0.3, 0.7):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, "DICOM")


@pytest.mark.parametrize("jpeg", [False, True])
def test_mutated_files_are_read_or_rejected_with_an_explanation(tmp_path: Path, jpeg: bool) -> None:
    whole = made(tmp_path, jpeg=jpeg, WindowCenter=100, WindowWidth=200).read_bytes()
    draw = np.random.default_rng(int(jpeg))
    for _ in range(150):
        content = bytearray(whole)
        for place in draw.integers(132, len(content), draw.integers(1, 8)):
            content[place] = draw.integers(256)
        try:
            found = read_image(bytes(content), 32)
        except DataError:
            continue
        assert min(found.shape) == 32


def test_reading_does_not_change_what_it_reads(tmp_path: Path) -> None:
    path = made(tmp_path)
    before = path.read_bytes()
    read_image(path)
    assert path.read_bytes() == before
    header = pydicom.dcmread(io.BytesIO(before))
    assert header.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
