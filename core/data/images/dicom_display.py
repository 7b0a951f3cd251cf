"""DICOM values to grey levels: rescale, lookup tables, window, photometric interpretation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from core.data.images import grey
from core.data.images.radiograph import Radiograph
from core.errors import DataError

INTERPRETATIONS = frozenset(
    {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "XYB"}
    | {f"YBR_{kind}" for kind in ("FULL", "FULL_422", "PARTIAL_420", "PARTIAL_422", "ICT", "RCT")}
)
"""Photometric interpretations of the standard, past and present. Error messages repeat no others,
since a header may contain anything."""


def to_grey(name: str, header: Dataset, stored: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Apply rescale, window and photometric interpretation (DICOM PS3.3 C.11, C.7.6.3.1.2).

    Args:
        name: The file's name, for messages.
        header: The attributes of the file.
        stored: Values of shape (height, width) or (height, width, 3).

    Returns:
        Grey levels of shape (height, width), 0 to 255; black is air.

    Raises:
        DataError: The photometric interpretation is not that of a radiograph.
    """
    interpretation = str(header.get("PhotometricInterpretation", "")).upper()
    if stored.ndim == 3 and (interpretation == "RGB" or interpretation.startswith("YBR")):
        colours = stored if stored.dtype == np.uint8 else grey.stretch(stored)
        return np.asarray(Image.fromarray(colours).convert("L"))
    if stored.ndim != 2 or interpretation not in {"MONOCHROME1", "MONOCHROME2"}:
        shown = interpretation if interpretation in INTERPRETATIONS else "unknown"
        raise DataError(
            f"The DICOM file {name} is not a radiograph: its photometric interpretation is "
            f"“{shown if interpretation else 'none'}” with "
            f"{int(header.get('SamplesPerPixel') or 1)} sample(s) per pixel.",
            "Export it as MONOCHROME1 or MONOCHROME2.",
        )
    eight = stored.dtype == np.uint8
    lowest = 0 if eight else int(stored.min())
    levels = np.arange(lowest, 256 if eight else int(stored.max()) + 1, dtype=stored.dtype)

    def count() -> NDArray[np.int64]:
        if eight:
            return np.array(Image.fromarray(stored).histogram(), np.int64)
        return np.bincount((stored.astype(np.int64) - lowest).ravel(), minlength=len(levels))

    table = _grey_table(header, levels, count)
    if interpretation == "MONOCHROME1":
        table = 255 - table
    table = np.where(_padding(header, levels), 0, table).astype(np.uint8)
    if eight and np.array_equal(table, levels):
        return stored.astype(np.uint8, copy=False)
    if eight:  # Pillow looks up bytes ten times as fast as NumPy
        return np.asarray(Image.fromarray(stored).point(table.tolist()))
    grey_levels: NDArray[np.uint8] = table[stored.astype(np.int64) - lowest]
    return grey_levels


def _grey_table(
    header: Dataset, levels: NDArray[np.integer], count: Callable[[], NDArray[np.int64]]
) -> NDArray[np.uint8]:
    """Return the grey level of each stored level: there are far fewer levels than pixels.

    Args:
        header: The attributes of the file.
        levels: Stored values, ascending.
        count: Counts the pixels of each level; called only if needed.
    """
    values = _modality_values(header, levels)
    if header.get("VOILUTSequence"):
        return grey.ramp(*_apply_table(header.VOILUTSequence[0], header, values))
    window = _window(header)
    if window is not None:
        return _apply_window(values, *window, str(header.get("VOILUTFunction") or "LINEAR").upper())
    if int(header.BitsStored) == 8 and np.array_equal(values, levels) and levels.min() >= 0:
        return levels.astype(np.uint8)
    return grey.ramp(values, *_value_range(header, levels, values, count()))


def _modality_values(header: Dataset, levels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Convert stored levels to the values of the modality (DICOM PS3.3 C.11.1)."""
    values = levels.astype(np.float64)
    if header.get("ModalityLUTSequence"):
        return _apply_table(header.ModalityLUTSequence[0], header, values)[0]
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    return values * float(slope or 1) + float(intercept or 0)


def _value_range(
    header: Dataset,
    levels: NDArray[np.integer],
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> tuple[float, float]:
    """Return the values at the quantiles ``grey.TAILS`` of the pixels, without padding."""
    unpadded = np.where(_padding(header, levels), 0, counts)
    low, high = values[grey.quantiles(unpadded if unpadded.any() else counts)]
    return float(min(low, high)), float(max(low, high))


def to_radiograph(
    header: Dataset, stored: NDArray[np.integer], shown: NDArray[np.uint8]
) -> Radiograph:
    """Keep all grey levels, with the window that ``shown`` was made with where it is linear.

    Args:
        header: The attributes of the file.
        stored: Values of shape (height, width) or (height, width, 3).
        shown: The result of ``to_grey``.
    """
    spacing, at_detector = _spacing(header)
    if stored.ndim != 2:
        return Radiograph(shown, shown, spacing=spacing, at_detector=at_detector)
    lowest = int(stored.min())
    indices = stored.astype(np.int64) - lowest
    levels = np.arange(lowest, lowest + int(indices.max()) + 1, dtype=np.int64)
    counts = np.bincount(indices.ravel(), minlength=len(levels))
    values, window = _values_and_window(header, levels, counts)
    padding = _padding(header, levels)
    used = values[~padding] if not padding.all() else values
    base, top = float(used.min()), float(used.max())
    if base >= 0 and top <= 65535:
        base = 0.0  # a level is then the same number as in the file
    # Neighbouring levels must remain distinct; a table or a window may have spread them unevenly.
    linear = not (header.get("ModalityLUTSequence") or header.get("VOILUTSequence"))
    unit = abs(float(header.get("RescaleSlope") or 1)) if linear else 1.0
    unit = max(unit, (top - base) / 65535)
    table = np.rint((values - base) / unit).clip(0, 65535)
    highest = round((top - base) / unit)
    slope, intercept = unit, base
    window = ((window[0] - base) / unit, (window[1] - base) / unit)
    if str(header.PhotometricInterpretation).upper() == "MONOCHROME1":
        table, slope, intercept = highest - table, -unit, base + unit * highest
        window = (highest - window[1], highest - window[0])
    table = np.where(padding, 0, table).clip(0, 65535)
    mapped = table[indices]
    return Radiograph(
        levels=mapped.astype(np.uint8) if highest <= 255 else mapped.astype(np.uint16),
        grey=shown,
        bits=int(header.BitsStored),
        window=window,
        spacing=spacing,
        at_detector=at_detector,
        slope=slope,
        intercept=intercept,
    )


def _values_and_window(
    header: Dataset, levels: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return a value for each stored level, and the limits of the window.

    A table or a sigmoid window has no two limits: it is applied to the values.
    """
    values = _modality_values(header, levels)
    if header.get("VOILUTSequence"):
        mapped, low, high = _apply_table(header.VOILUTSequence[0], header, values)
        return mapped, (low, high)
    window = _window(header)
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    if window is not None and function == "SIGMOID":
        return 65535 / (1 + np.exp(-4 * (values - window[0]) / window[1])), (0.0, 65535.0)
    if window is not None:
        return values, _window_limits(*window, function)
    if int(header.BitsStored) == 8 and np.array_equal(values, levels) and levels.min() >= 0:
        return values, (0.0, 255.0)
    return values, _value_range(header, levels, values, counts)


def _spacing(header: Dataset) -> tuple[tuple[float, float] | None, bool]:
    """Return mm per pixel, down and across, and whether it is at the detector (C.7.6.3.1.7)."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            down, across = (float(value) for value in header.get(keyword))
            if 0.01 <= down <= 5 and 0.01 <= across <= 5:
                return (down, across), not header.get("PixelSpacingCalibrationType")
    return None, False


def _apply_table(
    item: Dataset, header: Dataset, values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, float]:
    """Look values up in a table; return them and the table's range (DICOM PS3.3 C.11.1.1.1)."""
    count, first, bits = (int(entry) for entry in item.LUTDescriptor)
    count = count or 2**16
    if first >= 2**15 and int(header.PixelRepresentation) == 1:
        first -= 2**16  # stored as unsigned though the pixels are signed
    data = item.LUTData
    if isinstance(data, bytes):
        table = np.frombuffer(data, "<u2" if len(data) >= 2 * count else np.uint8)
    else:
        table = np.asarray(data)
    indices = np.clip(np.rint(values) - first, 0, min(count, len(table)) - 1).astype(np.int64)
    return table[indices].astype(np.float64), 0.0, float(2**bits - 1)


def _window(header: Dataset) -> tuple[float, float] | None:
    """Return centre and width of the first window, if the file has a valid one."""
    window = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = header.get(keyword)
        if value is None or value == "":
            return None
        several = hasattr(value, "__getitem__") and not isinstance(value, str)
        window.append(float(value[0] if several else value))
    return (window[0], window[1]) if np.isfinite(window).all() and window[1] >= 1 else None


def _apply_window(
    values: NDArray[np.float64], centre: float, width: float, function: str
) -> NDArray[np.uint8]:
    """Map values to grey levels by a window (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return grey.ramp(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    return grey.ramp(values, *_window_limits(centre, width, function))


def _window_limits(centre: float, width: float, function: str) -> tuple[float, float]:
    """Return the values that a linear window maps to black and white."""
    if function == "LINEAR_EXACT" or width == 1:
        return centre - width / 2, centre + width / 2
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _padding(header: Dataset, levels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which stored levels mark pixels outside of the image."""
    value = header.get("PixelPaddingValue")
    if value is None or isinstance(value, bytes):
        return np.zeros(levels.shape, np.bool_)
    limit = header.get("PixelPaddingRangeLimit")
    other = value if limit is None or isinstance(limit, bytes) else limit
    low, high = sorted((int(value), int(other)))
    return (levels >= low) & (levels <= high)
