"""What a DICOM header says on how stored values are shown: rescale, tables, window, meaning."""

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
    | {f"YBR_{one}" for one in ("FULL", "FULL_422", "PARTIAL_420", "PARTIAL_422", "ICT", "RCT")}
)
"""Photometric interpretations of the standard, past and present; no other word is repeated."""


def present(name: str, header: Dataset, stored: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Carry out rescale, window and photometric interpretation (DICOM PS3.3 C.11, C.7.6.3.1.2).

    Args:
        name: The file's name, for messages.
        header: Its attributes.
        stored: Values of shape (height, width) or (height, width, 3).

    Returns:
        Grey levels of shape (height, width), 0 to 255, black is air.

    Raises:
        DataError: It is no radiograph.
    """
    meaning = str(header.get("PhotometricInterpretation", "")).upper()
    if stored.ndim == 3 and (meaning == "RGB" or meaning.startswith("YBR")):
        colours = stored if stored.dtype == np.uint8 else grey.stretch(stored)
        return np.asarray(Image.fromarray(colours).convert("L"))
    shown = meaning if meaning in INTERPRETATIONS else "unknown" if meaning else "none"
    if stored.ndim != 2 or meaning not in {"MONOCHROME1", "MONOCHROME2"}:
        raise DataError(
            f"The DICOM file {name} has the photometric interpretation “{shown}” "
            f"with {int(header.get('SamplesPerPixel') or 1)} sample(s) a pixel, which is no "
            "radiograph.",
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
    if meaning == "MONOCHROME1":
        table = 255 - table
    table = np.where(_padding(header, levels), 0, table).astype(np.uint8)
    if eight and np.array_equal(table, levels):
        return stored.astype(np.uint8, copy=False)
    if eight:  # Pillow looks up bytes ten times as fast as NumPy
        return np.asarray(Image.fromarray(stored).point(table.tolist()))
    found: NDArray[np.uint8] = table[stored.astype(np.int64) - lowest]
    return found


def _grey_table(
    header: Dataset, levels: NDArray[np.integer], count: Callable[[], NDArray[np.int64]]
) -> NDArray[np.uint8]:
    """What is shown for each stored level; a table, since there are far fewer levels than pixels.

    Args:
        header: The file's attributes.
        levels: Stored values, ascending.
        count: Counts the pixels of each, where that is needed.
    """
    values = _meant(header, levels)
    if header.get("VOILUTSequence"):
        return grey.ramp(*_looked_up(header.VOILUTSequence[0], header, values))
    window = _window(header)
    if window is not None:
        return _windowed(values, *window, str(header.get("VOILUTFunction") or "LINEAR").upper())
    if int(header.BitsStored) == 8 and np.array_equal(values, levels) and levels.min() >= 0:
        return levels.astype(np.uint8)
    return grey.ramp(values, *_used(header, levels, values, count()))


def _meant(header: Dataset, levels: NDArray[np.integer]) -> NDArray[np.float64]:
    """The values that stored levels stand for (DICOM PS3.3 C.11.1)."""
    values = levels.astype(np.float64)
    if header.get("ModalityLUTSequence"):
        return _looked_up(header.ModalityLUTSequence[0], header, values)[0]
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    return values * float(slope or 1) + float(intercept or 0)


def _used(
    header: Dataset,
    levels: NDArray[np.integer],
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> tuple[float, float]:
    """Between which values the pixels lie, but for ``images.TAILS``; padding does not count."""
    seen = np.where(_padding(header, levels), 0, counts)
    low, high = values[grey.quantiles(seen if seen.any() else counts)]
    return float(min(low, high)), float(max(low, high))


def plate(header: Dataset, stored: NDArray[np.integer], shown: NDArray[np.uint8]) -> Radiograph:
    """All grey levels, with the window that ``shown`` was made by wherever that is linear."""
    spacing, at_detector = _spacing(header)
    if stored.ndim != 2:
        return Radiograph(shown, shown, spacing=spacing, at_detector=at_detector)
    lowest = int(stored.min())
    places = stored.astype(np.int64) - lowest
    levels = np.arange(lowest, lowest + int(places.max()) + 1, dtype=np.int64)
    values, window = _graded(header, levels, np.bincount(places.ravel(), minlength=len(levels)))
    pad = _padding(header, levels)
    used = values[~pad] if not pad.all() else values
    base, top = float(used.min()), float(used.max())
    if base >= 0 and top <= 65535:
        base = 0.0  # a level is then what the file calls it
    # Neighbouring levels must stay apart; a table or a window may have spread them unevenly.
    linear = not (header.get("ModalityLUTSequence") or header.get("VOILUTSequence"))
    unit = abs(float(header.get("RescaleSlope") or 1)) if linear else 1.0
    unit = max(unit, (top - base) / 65535)
    table = np.rint((values - base) / unit).clip(0, 65535)
    highest = round((top - base) / unit)
    slope, intercept = unit, base
    if window is not None:
        window = ((window[0] - base) / unit, (window[1] - base) / unit)
    if str(header.PhotometricInterpretation).upper() == "MONOCHROME1":
        table, slope, intercept = highest - table, -unit, base + unit * highest
        window = None if window is None else (highest - window[1], highest - window[0])
    table = np.where(pad, 0, table).clip(0, 65535)
    found = table[places]
    return Radiograph(
        levels=found.astype(np.uint8) if highest <= 255 else found.astype(np.uint16),
        grey=shown,
        bits=int(header.BitsStored),
        window=window,
        spacing=spacing,
        at_detector=at_detector,
        slope=slope,
        intercept=intercept,
    )


def _graded(
    header: Dataset, levels: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], tuple[float, float] | None]:
    """Values to be windowed, one a stored level, and the window; None shows all of them.

    What cannot be windowed by two limits (a table, a sigmoid) is carried out.
    """
    values = _meant(header, levels)
    if header.get("VOILUTSequence"):
        found, low, high = _looked_up(header.VOILUTSequence[0], header, values)
        return found, (low, high)
    window = _window(header)
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    if window is not None and function == "SIGMOID":
        return 65535 / (1 + np.exp(-4 * (values - window[0]) / window[1])), (0.0, 65535.0)
    if window is not None:
        return values, _limits(*window, function)
    if int(header.BitsStored) == 8 and np.array_equal(values, levels) and levels.min() >= 0:
        return values, (0.0, 255.0)
    return values, _used(header, levels, values, counts)


def _spacing(header: Dataset) -> tuple[tuple[float, float] | None, bool]:
    """Millimetres a pixel, down and across, and whether that is at the detector (C.7.6.3.1.7)."""
    found: dict[str, tuple[float, float]] = {}
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            down, across = (float(one) for one in header.get(keyword))
            if 0.01 <= down <= 5 and 0.01 <= across <= 5:
                found[keyword] = (down, across)
    if not found:
        return None, False
    spacing = next(iter(found.values()))
    calibrated = bool(header.get("PixelSpacingCalibrationType"))
    return spacing, not calibrated


def _looked_up(
    item: Dataset, header: Dataset, values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, float]:
    """What a table of a sequence gives for some values, and its range (DICOM PS3.3 C.11.1.1.1)."""
    count, first, bits = (int(one) for one in item.LUTDescriptor)
    count = count or 2**16
    if first >= 2**15 and int(header.PixelRepresentation) == 1:
        first -= 2**16  # stored as unsigned though the pixels are signed
    data = item.LUTData
    if isinstance(data, bytes):
        table = np.frombuffer(data, "<u2" if len(data) >= 2 * count else np.uint8)
    else:
        table = np.asarray(data)
    places = np.clip(np.rint(values) - first, 0, min(count, len(table)) - 1).astype(np.int64)
    return table[places].astype(np.float64), 0.0, float(2**bits - 1)


def _window(header: Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window, if the file has a usable one."""
    found = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = header.get(keyword)
        if value is None or value == "":
            return None
        found.append(float(value[0] if hasattr(value, "__getitem__") and not
                           isinstance(value, str) else value))  # fmt: skip
    return (found[0], found[1]) if np.isfinite(found).all() and found[1] >= 1 else None


def _windowed(
    values: NDArray[np.float64], centre: float, width: float, function: str
) -> NDArray[np.uint8]:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        return grey.ramp(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    return grey.ramp(values, *_limits(centre, width, function))


def _limits(centre: float, width: float, function: str) -> tuple[float, float]:
    """Lowest and highest value told apart by a window that is linear."""
    if function == "LINEAR_EXACT" or width == 1:
        return centre - width / 2, centre + width / 2
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _padding(header: Dataset, levels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which stored levels stand for "outside of the picture"."""
    value = header.get("PixelPaddingValue")
    if value is None or isinstance(value, bytes):
        return np.zeros(levels.shape, np.bool_)
    limit = header.get("PixelPaddingRangeLimit")
    other = value if limit is None or isinstance(limit, bytes) else limit
    low, high = sorted((int(value), int(other)))
    return (levels >= low) & (levels <= high)
