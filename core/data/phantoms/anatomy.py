"""Anatomy of a phantom: body, pose, thorax coordinates and the shapes of the organs.

Everything is drawn in thorax coordinates. u is the position across the chest: 0 at the midline, -1
and 1 at the outer edge of the lungs, with the patient's right at -1 (left in the image). v is the
position from top to bottom: 0 at the apex of the lungs and 1 at the diaphragm. The pose of the
patient only maps these coordinates to the image, so that a rotated or badly centred patient is
drawn by the same code. ``core.data.phantoms.tissue`` draws the absorption of the organs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Map = NDArray[np.floating[Any]]
Random = np.random.Generator

RIGHT, LEFT = -1, 1
SIDES = (RIGHT, LEFT)
BEYOND = -3.0, 4.0
"""Values of v above and below every image."""

LUNG_CONTRAST = 0.56
"""Difference in absorption between tissue and a lung at its full depth."""


def soft(distance: Map, width: float) -> Map:
    """A soft edge: 0 where ``distance`` is below ``-width / 2``, 1 above ``width / 2``."""
    share: Map = distance / width  # modified in position below: a phantom needs a hundred of them
    share += 0.5
    np.clip(share, 0.0, 1.0, out=share)
    rest = 2.0 * share
    np.subtract(3.0, rest, out=rest)
    share *= share
    share *= rest
    return share


def _fixed(values: Map) -> Map:
    """Make an array read-only, since several callers share it."""
    values.flags.writeable = False
    return values


def bump(x: Map, centre: float, width: float) -> Map:
    """A Gaussian of height 1."""
    height: Map = x - centre
    height /= width
    np.square(height, out=height)
    np.negative(height, out=height)
    return np.exp(height, out=height)


def clouds(random: Random, size: int, cells: int, octaves: int = 3) -> Map:
    """Smooth noise of mean about 0 and spread about 1.

    Args:
        random: Source of randomness.
        size: Side of the map in pixels.
        cells: Structures across the map in the coarsest octave.
        octaves: Number of octaves; each is twice as fine and half as strong as the previous one.
    """
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        side = min(cells * 2**octave, size)
        grid = random.standard_normal((side, side), np.float32)
        fine = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
        total += np.asarray(fine) * 0.5**octave
    return total / 0.85


def _joined(*parts: Map) -> Map:
    """Join several shapes into one with a smooth outline."""
    return np.log(sum(np.exp(6.0 * np.clip(part, -2.0, 1.0)) for part in parts)) / 6.0  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Body:
    """The properties of a patient, the same in all of their images.

    Attributes:
        female: Whether the patient is a woman.
        age: In years.
        habitus: From 0 (slim) to 1 (stout).
        width: Half the width of the thorax as a share of the image.
        height: From apex to diaphragm as a share of the image.
        heart: Cardiothoracic ratio without disease.
        heart_tilt: Angle of the heart's axis in radians.
        knob: Prominence of the aortic knob.
        rib_spacing: Distance between two ribs in v.
        rib_slope: Downward slope of the posterior ribs towards the side.
        clavicle: Rise of the clavicles towards the side.
        bone: Absorption of a rib; falls with age.
        bend: Sideways bend of the spine.
        breast: Absorption of the breast shadows.
        stomach: Size of the gas bubble under the left diaphragm; 0 without one.
        apex: How blunt the apex of the lungs is.
    """

    female: bool
    age: float
    habitus: float
    width: float
    height: float
    heart: float
    heart_tilt: float
    knob: float
    rib_spacing: float
    rib_slope: float
    clavicle: float
    bone: float
    bend: float
    breast: float
    stomach: float
    apex: float

    @classmethod
    def draw(cls, random: Random, female: bool, age: float) -> Body:
        """Draw a patient of a sex and an age."""
        ageing = np.clip((age - 20) / 60, 0, 1)
        uniform, normal = random.uniform, random.normal
        habitus = float(np.clip(random.beta(2, 3) + 0.1 * ageing, 0, 1))
        breast = uniform(0.05, 0.15) * (0.6 + 0.8 * habitus) if female else 0.0
        return cls(
            female=female,
            age=age,
            habitus=habitus,
            width=float(np.clip(normal(0.39 if female else 0.41, 0.018), 0.34, 0.45)),
            height=float(np.clip(normal(0.64 if female else 0.68, 0.03), 0.55, 0.74)),
            heart=float(np.clip(normal(0.445 + 0.03 * ageing, 0.022), 0.38, 0.52)),
            heart_tilt=float(normal(0.45 + 0.2 * habitus, 0.12)),
            knob=float(np.clip(0.02 + 0.07 * ageing + normal(0, 0.015), 0.01, 0.12)),
            rib_spacing=uniform(0.094, 0.114),
            rib_slope=uniform(0.20, 0.38) + 0.05 * float(ageing),
            clavicle=uniform(-0.02, 0.10),
            bone=uniform(0.065, 0.10) * (1.08 - 0.3 * float(ageing)),
            bend=float(normal(0, 0.012 + 0.02 * ageing)),
            breast=breast,
            stomach=uniform(0.05, 0.14) if random.random() < 0.6 else 0.0,
            apex=uniform(2.0, 2.8),
        )


@dataclass(frozen=True)
class Pose:
    """Position of the patient and exposure of one image.

    Attributes:
        supine: AP on a bed instead of PA standing.
        cx: Midline at the apex, as a share of the image.
        top: Apex of the lungs, as a share of the image.
        zoom: Magnification.
        tilt: Rotation of the image in radians.
        rotation: Rotation of the patient about the long axis, -1 to 1.
        breath: Depth of inspiration: shift of the diaphragm in v, down is positive.
        level: Absorption displayed as mid grey.
        window: Range of absorption displayed.
        gamma: Exponent of the grey levels.
        grain: Standard deviation of the noise.
        scatter: Share of scattered radiation, which reduces contrast.
    """

    supine: bool
    cx: float
    top: float
    zoom: float
    tilt: float
    rotation: float
    breath: float
    level: float
    window: float
    gamma: float
    grain: float
    scatter: float

    @classmethod
    def draw(cls, random: Random, supine: bool, body: Body, spread: float = 1.0) -> Pose:
        """Draw a pose; on a bed it varies more, with less inspiration and more scatter.

        Args:
            random: Source of randomness.
            supine: AP on a bed instead of PA standing.
            body: The patient.
            spread: Factor on the variation of position, inspiration and exposure.
        """
        uniform, normal = random.uniform, random.normal
        bed = 1.6 if supine else 1.0
        loose = bed * spread

        def near(middle: float, stray: float, low: float, high: float) -> float:
            """Draw around ``middle``; the bounds are for a spread of 1 and scale with it."""
            off = np.clip(normal(0, stray), (low - middle) * spread, (high - middle) * spread)
            return float(middle + off)

        return cls(
            supine=supine,
            cx=near(0.5, 0.015 * loose, 0.45, 0.55),
            top=near(0.11, 0.02 * loose, 0.05, 0.18),
            zoom=near(1.06 if supine else 1.0, 0.025 * loose, 0.9, 1.16),
            tilt=float(normal(0, 0.018 * loose)),
            rotation=float(np.clip(normal(0, 0.25 * loose), -1, 1)),
            breath=float(normal(-0.07 if supine else 0.0, 0.035 * spread)),
            level=near(0.72, 0.03 * loose, 0.66, 0.78),
            window=near(1.28, 0.07 * loose, 1.0, 1.55),
            gamma=1.025 + uniform(-0.125, 0.125) * spread,
            grain=uniform(0.006, 0.013) * (1.0 + 0.9 * body.habitus) * bed**0.5,
            scatter=uniform(0.03, 0.10) + 0.08 * body.habitus + (0.05 if supine else 0.0),
        )


@dataclass
class Shape:
    """Changes of the organs by findings, applied before the organs are drawn.

    Attributes:
        heart: Factor on the width of the heart.
        diaphragm: Shift of each half of the diaphragm in v; down is positive.
        flatness: 0 for domes, 1 for a flat diaphragm.
        air: Factor on the transparency of the lungs.
        vessels: Factor on the strength of the vessels.
        shift: Shift of heart and mediastinum towards the patient's left, in u.
    """

    heart: float
    diaphragm: dict[int, float]
    flatness: float = 0.0
    air: float = 1.0
    vessels: float = 1.0
    shift: float = 0.0


class Frame:
    """Thorax coordinates of an image, and maps of the organs in them.

    Attributes:
        size: Side of the image in pixels.
        u: Coordinate across the thorax, of shape (size, size).
        v: Coordinate down the thorax, of shape (size, size).
        lungs: Share of lung at each point, by side.
        depth: Thickness of the lung at each point, 0 to 1, by side.
        position: Position across a lung, 0 at the mediastinum and 1 at the chest wall, by side.
        chest: Rows and columns around a side's lung and ribs (see ``bounds``).
        spine_shift: Largest distance of the spine from the midline, in u.
        heart: Share of heart at each point.
        mediastinum: Share of mediastinum at each point.
    """

    def __init__(self, size: int, body: Body, pose: Pose, shape: Shape) -> None:
        self.size, self.body, self.pose, self.shape = size, body, pose, shape
        centres = (np.arange(size, dtype=np.float32) + 0.5) / size
        x, y = centres[None, :] - pose.cx, centres[:, None] - pose.top
        self._turn = cos, sin = math.cos(pose.tilt), math.sin(pose.tilt)
        self.across = body.width * pose.zoom
        self.down = body.height * pose.zoom
        self.u: Map = ((cos * x + sin * y) / self.across).astype(np.float32)
        self.v: Map = ((cos * y - sin * x) / self.down).astype(np.float32)
        self.spine: Map = body.bend * np.sin(3.0 * self.v) + 0.02 * pose.rotation
        self.spine_shift = abs(body.bend) + 0.02 * abs(pose.rotation)
        self._sides = {side: _fixed(side * (self.u - self.spine)) for side in SIDES}
        self._walls = {side: self._wall(side) for side in SIDES}
        self._diaphragms = {side: self._diaphragm(side) for side in SIDES}
        self.chest = {side: self._chest(side) for side in SIDES}
        self.lungs: dict[int, Map] = {}
        self.depth: dict[int, Map] = {}
        self.position: dict[int, Map] = {}
        for side in SIDES:
            self._draw_lung(side)
        self.heart = self._heart()
        self.mediastinum = self._mediastinum()

    def side(self, side: int) -> Map:
        """Return the distance from the midline towards one side."""
        return self._sides[side]

    def wall(self, side: int) -> Map:
        """Return the distance of the chest wall from the midline at each height."""
        return self._walls[side]

    def diaphragm(self, side: int) -> Map:
        """Return the height of the diaphragm at each distance from the midline, as v."""
        return self._diaphragms[side]

    def dome(self, side: int) -> tuple[float, float]:
        """Return the smallest and the largest v of a half of the diaphragm."""
        level, dome = self._dome(side)
        return level - dome, level + 0.6 * dome

    def bounds(self, u: tuple[float, float], v: tuple[float, float]) -> tuple[slice, slice]:
        """Return the rows and columns that contain a range of u, from the spine, and of v.

        A structure inside of it is drawn there only: the same pixels in less time.
        """
        across = min(u) - self.spine_shift, max(u) + self.spine_shift
        xs, ys = zip(*(self.pixel(a, b) for a in across for b in v), strict=True)
        return self._within(ys), self._within(xs)

    def _within(self, points: tuple[float, ...]) -> slice:
        first, last = math.floor(min(points)) - 1, math.ceil(max(points)) + 1
        return slice(min(max(first, 0), self.size), min(max(last, 0), self.size))

    def _wall(self, side: int) -> Map:
        t = np.clip(self.v / 1.08, 0.0, 1.0)
        turned = 1.0 + 0.05 * side * self.pose.rotation
        curve = np.sqrt(np.maximum(1.0 - (1.0 - t) ** self.body.apex, 0.0))
        edge: Map = 0.95 * turned * curve
        return _fixed(edge.astype(np.float32))

    def _dome(self, side: int) -> tuple[float, float]:
        """Return the level of a half of the diaphragm, as v, and the height of its dome."""
        level = 1.06 if side == LEFT else 1.03
        level += self.pose.breath + self.shape.diaphragm[side]
        return level, 0.13 * (1.0 - 0.85 * self.shape.flatness)

    def _diaphragm(self, side: int) -> Map:
        level, dome = self._dome(side)
        arch = 1.0 - ((self.side(side) - 0.43) / 0.52) ** 2
        height: Map = level - dome * np.maximum(arch, -0.6)
        return _fixed(height.astype(np.float32))

    def lung(self) -> Map:
        """Return the share of lung outside of heart and mediastinum."""
        both = self.lungs[RIGHT] + self.lungs[LEFT]
        return both * (1.0 - np.maximum(self.heart, self.mediastinum))

    def pixel(self, u: float, v: float) -> tuple[float, float]:
        """Map u and v to a point (x, y) of the image, in pixels."""
        a, b = u * self.across, v * self.down
        cos, sin = self._turn
        x, y = cos * a - sin * b + self.pose.cx, sin * a + cos * b + self.pose.top
        return x * self.size, y * self.size

    def _chest(self, side: int) -> tuple[slice, slice]:
        _, low = self.dome(side)
        return self.bounds((0.0, side * 1.06), (-0.2, max(1.3, low + 0.03)))

    def _draw_lung(self, side: int) -> None:
        """Draw the maps of one lung inside its bounds; they are 0 elsewhere."""
        bounds = self.chest[side]
        w, wall, v = self.side(side)[bounds], self.wall(side)[bounds], self.v[bounds]
        inner = 0.09
        inside = soft(wall - w, 0.035) * soft(w - inner, 0.04)
        inside = inside * soft(self.diaphragm(side)[bounds] - v, 0.025) * soft(v - 0.005, 0.02)
        position = np.clip((w - inner) / np.maximum(wall - inner, 0.05), 0.0, 1.0)
        across = 0.62 + 0.38 * np.sqrt(np.maximum(4.0 * position * (1.0 - position), 0.0))
        depth = across * (0.72 + 0.28 * np.clip(v / 0.55, 0.0, 1.0))
        for maps, drawn in ((self.lungs, inside), (self.position, position), (self.depth, depth)):
            maps[side] = np.zeros_like(self.v)
            maps[side][bounds] = drawn

    def _heart(self) -> Map:
        body, shape, pose = self.body, self.shape, self.pose
        ratio = body.heart * shape.heart * (1.08 if pose.supine else 1.0)
        lift = 0.6 * (pose.breath + 0.5 * (shape.diaphragm[LEFT] + shape.diaphragm[RIGHT]))
        ratio *= 1.0 - 0.5 * lift
        # The heart is ``ratio`` times as wide as the thorax: a third is right of the midline.
        half, centre = 0.95 * ratio, 0.95 * ratio * 0.36 + shape.shift + 0.06 * pose.rotation
        tall = 0.66 * half**0.5
        # Each chamber below is 0 outside of 1.5 times its axes.
        reach = 1.5 * max(1.03 * half, 0.42 * tall, 0.22)
        top, right = 0.76 + lift, centre
        bounds = self.bounds(
            (right - reach, right + reach), (max(top - reach - 0.18, 0.2), top + reach)
        )
        heart = np.zeros_like(self.v)
        u, v = self.u[bounds] - self.spine[bounds] - centre, self.v[bounds] - top
        cos, sin = math.cos(body.heart_tilt), math.sin(body.heart_tilt)
        long_axis, short_axis = cos * u + sin * v, cos * v - sin * u
        ventricles = 1.0 - np.sqrt(
            (long_axis / (1.03 * half)) ** 2 + (short_axis / (0.42 * tall)) ** 2
        )
        atrium = 1.0 - np.sqrt(((u + 0.60 * half) / (0.42 * half)) ** 2 + (v / (0.30 * tall)) ** 2)
        base = 1.0 - np.sqrt(((u + 0.25 * half) / (0.50 * half)) ** 2 + ((v + 0.18) / 0.22) ** 2)
        joined = soft(_joined(ventricles, 0.7 * atrium, 0.6 * base), 0.13)
        heart[bounds] = joined * soft(self.v[bounds] - 0.30, 0.1)
        return heart

    def _mediastinum(self) -> Map:
        body, pose = self.body, self.pose
        aside = 0.5 * self.shape.shift + 0.03 * pose.rotation
        bounds = self.bounds((aside - 0.45, aside + 0.45), (BEYOND[0], 1.25))
        u, v = self.u[bounds] - self.spine[bounds], self.v[bounds]
        u = u - 0.5 * self.shape.shift - 0.03 * pose.rotation
        wide = 0.015 + (0.035 if pose.supine else 0.0) + 0.03 * body.habitus
        left = 0.125 + wide + body.knob * bump(v, 0.32, 0.075) + 0.045 * bump(v, 0.47, 0.07)
        right = 0.115 + wide + 0.025 * bump(v, 0.55, 0.16) + 0.02 * bump(v, 0.2, 0.15)
        mediastinum = np.zeros_like(self.v)
        mediastinum[bounds] = soft(left - u, 0.04) * soft(u + right, 0.04) * soft(1.15 - v, 0.1)
        return mediastinum
