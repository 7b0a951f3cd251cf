"""From absorption to an image: devices, scatter, noise, window, collimator and side marker."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from core.data.phantoms.anatomy import Frame, Map, Random, clouds


def expose(absorption: Map, frame: Frame, random: Random) -> NDArray[np.uint8]:
    """Convert absorption to grey levels: scatter, noise, window, collimator and side marker."""
    pose, size = frame.pose, frame.size
    scattered = _blurred(absorption, size / 14)
    dose = (1.0 - pose.scatter) * absorption + pose.scatter * scattered
    # Fewer quanta reach the detector behind dense tissue, so that it is noisier there.
    fine, coarse = _grain(size, random)
    dose = dose + pose.grain * (0.55 + 0.6 * dose) * (0.7 * fine + 0.5 * coarse)
    share = (dose - pose.level) / pose.window + 0.5
    share = np.clip(share, 0.0, 1.0) ** pose.gamma
    shown = share + 0.10 * (share - 0.5) * 4.0 * share * (1.0 - share)
    grey = (255.0 * np.clip(shown, 0.0, 1.0)).astype(np.uint8)
    image = Image.fromarray(grey)
    _collimate(image, random)
    _draw_marker(image, random)
    return np.array(image)


def overlay_masks(frame: Frame, random: Random) -> dict[str, NDArray[np.bool_]]:
    """Return where ``expose`` draws the collimator's borders and the side marker.

    Args:
        frame: The frame of the image.
        random: In the same state as for ``expose``.

    Returns:
        Masks of shape (size, size) named ``collimator`` and ``marker``; all False if not drawn.
    """
    size = frame.size
    _grain(size, random)
    borders, marker = Image.new("L", (size, size), 255), Image.new("L", (size, size), 0)
    _collimate(borders, random)
    _draw_marker(marker, random)
    return {"collimator": np.asarray(borders) < 255, "marker": np.asarray(marker) > 0}


def _grain(size: int, random: Random) -> tuple[NDArray[np.float32], Map]:
    return random.standard_normal((size, size), np.float32), clouds(random, size, size // 2, 1)


def _blurred(values: Map, radius: float) -> Map:
    small = Image.fromarray(values).resize((32, 32), Image.Resampling.BOX)
    wide = np.asarray(small)
    for _ in range(max(1, round(radius / 10))):
        padded = np.pad(wide, 1, mode="edge")
        wide = sum(padded[i : i + 32, j : j + 32] for i in range(3) for j in range(3)) / 9  # type: ignore[assignment]
    back = Image.fromarray(wide.astype(np.float32))
    return np.asarray(back.resize(values.shape[::-1], Image.Resampling.BICUBIC))


def _collimate(image: Image.Image, random: Random) -> None:
    """Draw the black borders of the collimator, in a quarter of the images."""
    chance, edges = random.random(), random.uniform(0.004, 0.03, 4) * image.width
    if chance < 0.25:
        pen, size = ImageDraw.Draw(image), image.width
        left, top, right, bottom = edges
        for box in ((0, 0, left, size), (0, 0, size, top), (size - right, 0, size, size),
                    (0, size - bottom, size, size)):  # fmt: skip
            pen.rectangle(box, fill=int(4 + 6 * chance))


def _draw_marker(image: Image.Image, random: Random) -> None:
    """Draw the side marker: R on the left of the image or L on its right."""
    size = image.width
    right = random.random() < 0.45
    x = random.uniform(0.035, 0.09) * size
    y, height = random.uniform(0.03, 0.10) * size, random.uniform(0.045, 0.07) * size
    ink, shown = int(random.uniform(190, 255)), random.random() < 0.9
    if shown:
        font = ImageFont.load_default(height)
        corner = (x, y) if right else (size - x - 0.6 * height, y)
        ImageDraw.Draw(image).text(corner, "R" if right else "L", fill=ink, font=font)


@dataclass(frozen=True)
class Device:
    """A tube, wire or pacemaker.

    Attributes:
        points: Control points of its course, in u and v.
        width: In pixels of an image of 256 pixels.
        ink: Absorption.
    """

    points: tuple[tuple[float, float], ...]
    width: float
    ink: float


def devices(random: Random, supine: bool, drained: int | None) -> list[Device]:
    """Draw tubes and wires, mostly in bedside images.

    Args:
        random: Source of randomness.
        supine: Whether the image was taken on a bed.
        drained: The side of the chest tube; None without one.
    """
    drawn: list[Device] = []
    rolls = random.random(5)
    jitter: Callable[[], float] = lambda: float(random.normal(0, 0.02))  # noqa: E731
    if supine and rolls[0] < 0.35:  # endotracheal tube
        drawn.append(Device(((jitter(), -0.3), (0.0, 0.0), (-0.01, random.uniform(0.2, 0.33))),
                            3.0, 0.11))  # fmt: skip
    if supine and rolls[1] < 0.35:  # nasogastric tube
        drawn.append(Device(((0.02, -0.3), (0.03, 0.3), (0.02, 0.8), (0.12, 1.05), (0.4, 1.2)),
                            2.0, 0.14))  # fmt: skip
    if rolls[2] < (0.4 if supine else 0.04):  # central venous catheter
        side = float(random.choice([-1, 1]))
        drawn.append(Device(((side * 0.75, 0.02), (side * 0.35, 0.10), (-0.12, 0.24),
                             (-0.14, random.uniform(0.4, 0.6))), 1.4, 0.14))  # fmt: skip
    if rolls[3] < (0.5 if supine else 0.05):  # electrodes and their wires
        for _ in range(int(random.integers(2, 5))):
            u, v = float(random.uniform(-0.9, 0.9)), float(random.uniform(0.1, 0.95))
            end = (u + float(random.normal(0, 0.5)), -0.3 if random.random() < 0.5 else 1.5)
            bend = ((u + end[0]) / 2 + 5 * jitter(), (v + end[1]) / 2)
            drawn.append(Device(((u, v), (u + 0.001, v)), 4.5, 0.35))
            drawn.append(Device(((u, v), bend, end), 1.2, 0.12))
    if rolls[4] < 0.03:  # pacemaker
        v = float(random.uniform(0.14, 0.24))
        drawn.append(Device(((0.68, v), (0.80, v + 0.03)), 20.0, 0.5))
        drawn.append(Device(((0.68, v), (0.3, 0.12), (-0.12, 0.3), (-0.1, 0.65), (0.3, 0.88)),
                            1.4, 0.35))  # fmt: skip
    if drained is not None:
        drawn.append(Device(((drained * 1.3, 0.75), (drained * 0.8, 0.62), (drained * 0.45, 0.3),
                             (drained * 0.4, 0.16)), 3.5, 0.15))  # fmt: skip
    return drawn


def draw_devices(frame: Frame, drawn: list[Device]) -> Map | float:
    """Return the absorption of devices: a map of shape (size, size), or 0 without any."""
    if not drawn:
        return 0.0
    size = frame.size
    canvas = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(canvas)
    for device in drawn:
        course = [frame.pixel(*point) for point in _smooth(device.points)]
        width = max(1, round(2 * device.width * size / 256))
        dots = [(2 * x, 2 * y) for x, y in course]
        pen.line(dots, fill=int(255 * device.ink), width=width, joint="curve")
        if device.width > 4:
            for x, y in dots:
                r = width / 2
                pen.ellipse((x - r, y - r, x + r, y + r), fill=int(255 * device.ink))
    blurred = canvas.reduce(2).filter(ImageFilter.GaussianBlur(0.5 * size / 256))
    return np.asarray(blurred, np.float32) / 255


def _smooth(points: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    """Smooth a polygon by Chaikin's corner cutting, applied twice; the ends stay."""
    course = list(points)
    for _ in range(2 if len(points) > 2 else 0):
        cut = [course[0]]
        for (a, b), (c, d) in itertools.pairwise(course):
            cut += [(0.75 * a + 0.25 * c, 0.75 * b + 0.25 * d),
                    (0.25 * a + 0.75 * c, 0.25 * b + 0.75 * d)]  # fmt: skip
        course = [*cut, course[-1]]
    return course
