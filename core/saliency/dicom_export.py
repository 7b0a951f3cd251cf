"""A map over its radiograph as a DICOM Secondary Capture, for viewers that read only DICOM.

Header and pixels state how the map was derived, and contain the disclaimer. Nothing of the source's
header is copied: no name, no number and no date of a patient.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from core.errors import DataError
from core.formatting import DISCLAIMER

SIDES = (512, 2048)
"""Minimum and maximum of the longer side in pixels: text must be legible, files portable."""

OPACITY = 0.6
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MANUFACTURER = "CXR PEFT Explorer"

Colours = NDArray[np.uint8]


@dataclass(frozen=True)
class Legend:
    """The description of a map, for the pixels and the header.

    Attributes:
        model: Name of the run.
        finding: The finding.
        probability: The model's probability of it, 0 to 1.
        method: The title of the method.
        layer: The layer that the map was computed from.
        unit: Unit of the map's values.
        peak: Its highest value.
    """

    model: str
    finding: str
    probability: float
    method: str
    layer: str
    unit: str
    peak: float

    def lines(self) -> list[str]:
        """The description as lines of text, the disclaimer last."""
        return [
            f"{self.finding.replace('_', ' ')}: probability {self.probability:.2f} by {self.model}",
            f"{self.method} at {self.layer}; colours from 0 to {self.peak:.2g} {self.unit}, "
            "scale of this image",
            f"{DISCLAIMER}.",
        ]


def overlay(
    grey: NDArray[np.uint8], values: NDArray[np.float32] | None, lines: Sequence[str]
) -> Colours:
    """Draw a map over a radiograph, and lines of text below it.

    Args:
        grey: Shape (height, width), 0 to 255.
        values: The map, of the same shape, 0 and above, NaN outside of the network's input; None
            for the radiograph alone.
        lines: The text.

    Returns:
        RGB of shape (height, width, 3), 0 to 255.

    Raises:
        DataError: Map and image have different shapes.
    """
    if values is not None and values.shape != grey.shape:
        raise DataError(
            f"The map has the shape {values.shape}, its image {grey.shape}.",
            "Give both in the coordinates of the original image.",
        )
    image = Image.fromarray(grey)
    scale = min(max(1.0, SIDES[0] / max(image.size)), SIDES[1] / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float64)[..., None]
    pixels = np.repeat(pixels, 3, axis=2)
    if values is not None:
        import matplotlib

        peak = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
        share = np.nan_to_num(values / peak if peak > 0 else values * 0.0).astype(np.float32)
        share = np.asarray(Image.fromarray(share).resize(size, Image.Resampling.BILINEAR))
        share = share.clip(0, 1)
        tint = matplotlib.colormaps["inferno"](share)[..., :3] * 255
        # Transparent where the map is low, so that the radiograph stays visible there.
        alpha = OPACITY * np.minimum(1, 1.6 * share)[..., None]
        pixels = pixels * (1 - alpha) + tint * alpha
    return _annotated(np.rint(pixels).clip(0, 255).astype(np.uint8), lines)


def secondary_capture(colours: Colours, legend: Legend, *, clean: bool = False) -> bytes:
    """Write RGB pixels as one DICOM file (PS3.3 A.8.1, Secondary Capture Image).

    Args:
        colours: Shape (height, width, 3), 0 to 255.
        legend: Its description.
        clean: Whether the source's pixels are known to identify no patient, as in public data sets;
            otherwise the attribute Burned In Annotation is left out.

    Returns:
        The content of the file: explicit VR, little endian, uncompressed.
    """
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    now = datetime.datetime.now(tz=datetime.UTC)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = pydicom.Dataset()
    file.file_meta = meta
    file.SpecificCharacterSet = "ISO_IR 192"
    file.SOPClassUID = SECONDARY_CAPTURE
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
        "ReferringPhysicianName", "StudyID", "AccessionNumber", "PatientOrientation", "Laterality",
    ):  # fmt: skip
        setattr(file, keyword, None)  # type 2: required by the standard, possibly empty
    file.PatientIdentityRemoved = "YES"
    file.DeidentificationMethod = "Pixels only; nothing of the source's header"
    file.StudyInstanceUID = generate_uid(prefix=None)
    file.SeriesInstanceUID = generate_uid(prefix=None)
    file.SeriesNumber, file.InstanceNumber = 1, 1
    file.Modality, file.ConversionType = "OT", "WSD"
    file.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    file.SeriesDescription = f"{legend.method} of {legend.finding}"[:64]
    file.ImageType = ["DERIVED", "SECONDARY"]
    file.ContentDate, file.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    file.DerivationDescription = " ".join(f"{line.rstrip('.')}." for line in legend.lines())[:1024]
    file.ImageComments = f"{DISCLAIMER}."
    if clean:
        file.BurnedInAnnotation = "NO"
    file.SamplesPerPixel, file.PhotometricInterpretation = 3, "RGB"
    file.PlanarConfiguration = 0
    file.Rows, file.Columns = colours.shape[:2]
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation = 7, 0
    packed = np.ascontiguousarray(colours).tobytes()
    file.PixelData = packed + b"\0" * (len(packed) % 2)
    file["PixelData"].VR = "OB"
    out = io.BytesIO()
    pydicom.dcmwrite(out, file, enforce_file_format=True)
    return out.getvalue()


def _annotated(pixels: Colours, lines: Sequence[str]) -> Colours:
    """Add R and L to the image, and a black band with text below it."""
    height, width = pixels.shape[:2]
    size = max(12, round(width / 44))
    font = _font(size)
    wrapped = [part for line in lines for part in _wrapped(line, font, width - 2 * size)]
    band = round(1.35 * size * len(wrapped) + size)
    sheet = Image.new("RGB", (width, height + band))
    sheet.paste(Image.fromarray(pixels))
    pen = ImageDraw.Draw(sheet)
    large = _font(round(1.4 * size))
    for letter, x, anchor in (("R", size / 2, "lm"), ("L", width - size / 2, "rm")):
        pen.text(
            (x, height / 2), letter, "white", large, anchor, stroke_width=2, stroke_fill="black"
        )
    for i, line in enumerate(wrapped):
        pen.text((size, height + size / 2 + 1.35 * size * i), line, "white", font)
    return np.asarray(sheet)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """A font of matplotlib; the default font of Pillow lacks × and Greek letters."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, size)


def _wrapped(line: str, font: ImageFont.FreeTypeFont, max_width: int) -> list[str]:
    """Break a line into parts of at most ``max_width`` pixels."""
    parts = [""]
    for word in line.split():
        longer = f"{parts[-1]} {word}".strip()
        if parts[-1] and font.getlength(longer) > max_width:
            parts.append(word)
        else:
            parts[-1] = longer
    return parts
