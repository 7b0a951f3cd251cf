"""How the 14 findings of NIH ChestX-ray14 change a phantom.

A finding first reshapes organs (a large heart, a low diaphragm), then adds the absorption of its
lesion. Its severity is from 0 (easily missed) to 1. Each finding has random numbers of its own, so
that the same patient without it is identical in everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.data.phantoms.anatomy import (
    LEFT,
    RIGHT,
    SIDES,
    Frame,
    Map,
    Random,
    Shape,
    bump,
    clouds,
    soft,
)


@dataclass(frozen=True)
class Lesion:
    """What a finding adds to a phantom; maps of shape (size, size).

    Attributes:
        density: Absorption to add; negative where there is more air.
        region: Share of lesion at each point, 0 to 1; the mask is where it exceeds a third.
        erased: Share of the lung's vessels that the lesion hides, or None.
    """

    density: Map
    region: Map
    erased: Map | None = None


@dataclass(frozen=True)
class Pathology:
    """How one finding is drawn.

    Attributes:
        draw: Draws the lesion: (frame, random numbers, severity 0 to 1) to ``Lesion``.
        reshape: Changes the organs before that: (shape, random numbers, severity).
        chronic: Whether it is the same in all studies of a patient.
    """

    draw: Callable[[Frame, Random, float], Lesion]
    reshape: Callable[[Shape, Random, float], None] | None = None
    chronic: bool = False


def _side(random: Random, right: float = 0.52) -> int:
    return RIGHT if random.random() < right else LEFT


def _spot(frame: Frame, side: int, w: float, v: float, across: float, down: float) -> Map:
    """Relative distance from the edge of an ellipse: 1 at its centre, 0 at the edge."""
    return 1.0 - np.sqrt(((frame.side(side) - w) / across) ** 2 + ((frame.v - v) / down) ** 2)


def _within(random: Random, low: float, high: float, share: float) -> float:
    """Draw a value between two bounds that increases with ``share``, with some variation."""
    noise = float(random.uniform(-0.12, 0.12))
    return low + (high - low) * float(np.clip(share + noise, 0.0, 1.0))


# --- heart, pleura and the shape of the chest ----------------------------------------------------


def _enlarge(shape: Shape, random: Random, severity: float) -> None:
    shape.heart *= _within(random, 1.13, 1.45, severity)


def _cardiomegaly(frame: Frame, random: Random, severity: float) -> Lesion:
    return Lesion(np.zeros_like(frame.v), frame.heart)


def _effusion(frame: Frame, random: Random, severity: float) -> Lesion:
    """Fluid in the costophrenic angle with a meniscus; on a bed a veil as well."""
    sides = SIDES if random.random() < 0.25 else (_side(random),)
    region, fluid = np.zeros_like(frame.v), np.zeros_like(frame.v)
    for side in sides:
        depth = _within(random, 0.08, 0.45, severity)
        level = 1.06 + frame.pose.breath + frame.shape.diaphragm[side] - depth
        position, v = frame.position[side], frame.v
        climb = (0.10 + 0.35 * depth) * position**3 + 0.02 * np.sin(4 * position)
        surface = soft(v - (level + 0.05 - climb), 0.045 + 0.08 * frame.pose.supine)
        if frame.pose.supine:
            veil = np.clip((v - level + 0.5) / 0.5, 0, 1)
            surface = np.maximum(surface, 0.32 * veil * (0.4 + severity))
        region = np.maximum(region, surface * frame.lungs[side])
        fluid += 0.54 * surface * frame.lungs[side] * frame.depth[side]
    return Lesion(fluid, region, 0.9 * region)


def _pneumothorax(frame: Frame, random: Random, severity: float) -> Lesion:
    """Air between lung and wall, mostly at the apex: a fine line without vessels beyond it."""
    side = _side(random)
    gap = _within(random, 0.12, 0.45, severity)
    wall, w, v = frame.wall(side), frame.side(side), frame.v
    width = gap * (0.28 + 0.72 * np.clip(1.0 - v / (0.45 + 1.2 * gap), 0, 1))
    down = 0.04 + 0.55 * gap
    edge = wall - width + 0.01 * np.sin(9 * v + random.uniform(0, 6))
    t = np.clip((v - down) / 0.25, 0, 1)
    edge = np.where(v < down, 0.05, 0.05 + (edge - 0.05) * np.sqrt(1 - (1 - t) ** 2))
    beyond = soft(w - edge, 0.02) * frame.lungs[side]
    line = bump(w - edge, 0.0, 0.013) * frame.lungs[side] * soft(v - 0.6 * down, 0.05)
    collapsed = frame.lungs[side] * (1.0 - beyond)
    density = -0.14 * beyond + 0.09 * line + (0.02 + 0.22 * gap) * collapsed
    return Lesion(density.astype(np.float32), beyond.astype(np.float32), beyond)


def _pleural_thickening(frame: Frame, random: Random, severity: float) -> Lesion:
    """A rind along the chest wall that blunts the costophrenic angle, or a cap over the apex.

    The inner border is uneven. Both sides are affected in a third of the patients.
    """
    first, apical = _side(random), random.random() < 0.3
    sides = SIDES if random.random() < 0.33 else (first,)
    region, density = np.zeros_like(frame.v), np.zeros_like(frame.v)
    for side in sides:
        width = _within(random, 0.055, 0.16, severity)
        wave = 1.0 + 0.4 * np.sin(frame.v * random.uniform(12, 26) + random.uniform(0, 6))
        inward = frame.wall(side) - frame.side(side)
        if apical:
            band = soft(1.3 * width - np.minimum(inward, 0.8 * frame.v), 0.05)
            along = soft(_within(random, 0.20, 0.34, severity) - frame.v, 0.08)
            shape = band * along
        else:
            top, above = random.uniform(0.25, 0.60), frame.diaphragm(side) - frame.v
            band = soft(width * wave - inward, 0.03) * soft(frame.v - top, 0.1)
            angle = soft(1.0 - inward / (2.8 * width) - above / (2.0 * width), 0.5)
            shape = np.maximum(band, angle * (frame.v > 0.5))
        shape = shape * frame.lungs[side]
        region = np.maximum(region, shape)
        density += _within(random, 0.26, 0.44, severity) * shape * (0.85 + 0.4 * (wave - 1.0))
    return Lesion(density, region, 0.6 * region)


def _hyperinflate(shape: Shape, random: Random, severity: float) -> None:
    low = _within(random, 0.015, 0.11, severity)
    for side in SIDES:
        shape.diaphragm[side] += low
    shape.flatness = max(shape.flatness, _within(random, 0.2, 0.9, severity))
    shape.air *= _within(random, 1.01, 1.13, severity)
    shape.vessels *= _within(random, 0.85, 0.45, severity)
    shape.heart *= _within(random, 0.99, 0.88, severity)


def _emphysema(frame: Frame, random: Random, severity: float) -> Lesion:
    """Bullae in the upper zones; ``_hyperinflate`` makes the lungs large and transparent."""
    density = np.zeros_like(frame.v)
    for _ in range(int(random.integers(2, 4 + round(4 * severity)))):
        side, r = _side(random), float(random.uniform(0.05, 0.13))
        w, v = float(random.uniform(0.35, 0.8)), float(random.uniform(0.08, 0.5))
        inside = _spot(frame, side, w, v, r, 0.7 * r)
        bulla = soft(inside, 0.15) * frame.lungs[side]
        density += -0.08 * bulla + 0.05 * bump(inside, 0.0, 0.10) * frame.lungs[side]
    return Lesion(density, frame.lung(), None)


def _hernia(frame: Frame, random: Random, severity: float) -> Lesion:
    """Stomach above the diaphragm, behind the heart: a round density with an air-fluid level."""
    r = _within(random, 0.15, 0.31, severity)
    w, v = float(random.uniform(-0.12, 0.24)), float(random.uniform(0.80, 0.95)) - 0.45 * r
    inside = _spot(frame, LEFT, w, v, r, 0.72 * r * float(random.uniform(0.85, 1.25)))
    region = soft(inside, 0.12)
    level = v - float(random.uniform(-0.15, 0.3)) * r
    gas = soft(inside - 0.14, 0.12) * soft(level - frame.v, 0.012)
    shell = bump(inside, 0.05, 0.10)
    behind = 0.5 + 0.5 * np.clip(frame.lungs[LEFT] + frame.lungs[RIGHT] - frame.heart, 0, 1)
    density = 0.24 * region * behind + 0.07 * shell - _within(random, 0.18, 0.32, severity) * gas
    return Lesion(density.astype(np.float32), region)


# --- the lung: focal -----------------------------------------------------------------------------


def _free_position(frame: Frame, random: Random) -> tuple[int, float, float]:
    """Draw a position in a lung, not behind the heart or under the diaphragm: side, w, v."""
    side = _side(random)
    v = float(random.uniform(0.14, 0.84))
    wall = 0.95 * math.sqrt(1.0 - (1.0 - min(v / 1.08, 1.0)) ** frame.body.apex)
    inner = 0.22 if side == RIGHT or v < 0.5 else 0.42
    return side, float(random.uniform(inner, max(inner + 0.05, wall - 0.14))), v


def _nodule(frame: Frame, random: Random, severity: float) -> Lesion:
    """One to six round opacities of 1 to 3 cm, some of them calcified."""
    region, density = np.zeros_like(frame.v), np.zeros_like(frame.v)
    count = 1 if random.random() < 0.45 else int(random.integers(2, 7))
    for _ in range(count):
        side, w, v = _free_position(frame, random)
        r = _within(random, 0.055, 0.105, severity)
        inside = _spot(frame, side, w, v, r, 0.62 * r * float(random.uniform(0.85, 1.2)))
        dense = _within(random, 0.24, 0.40, severity) + 0.12 * (random.random() < 0.2)
        region = np.maximum(region, soft(inside, 0.2))
        density = np.maximum(density, dense * soft(inside - 0.02, 0.35))
    return Lesion(density, region, 0.6 * region)


def _mass(frame: Frame, random: Random, severity: float) -> Lesion:
    """An opacity above 3 cm with a lobulated or spiculated edge."""
    side, w, v = _free_position(frame, random)
    r = _within(random, 0.14, 0.29, severity)
    inside = _spot(frame, side, w, v, r, 0.62 * r * float(random.uniform(0.8, 1.2)))
    turn = np.arctan2(frame.v - v, frame.side(side) - w)
    lobes, phase = int(random.integers(3, 7)), random.uniform(0, 6)
    inside = inside + 0.09 * np.sin(lobes * turn + phase)
    if random.random() < 0.5:
        spikes = np.maximum(np.sin((lobes + 9) * turn + 2 * phase), 0) ** 3
        inside = inside + 0.16 * spikes * np.clip(inside + 0.5, 0, 1)
    region = soft(inside, 0.18)
    thick = np.sqrt(np.clip(inside + 0.1, 0, 1))
    density = _within(random, 0.30, 0.48, severity) * region * (0.6 + 0.4 * thick)
    if random.random() < 0.2:  # a cavity
        density = density - 0.20 * soft(inside - 0.45, 0.15)
    return Lesion(density.astype(np.float32), region, 0.8 * region)


def _lose_volume(shape: Shape, random: Random, severity: float) -> None:
    """Raise the diaphragm and draw the heart to the side of the lesion, which is drawn first."""
    side = _side(random)
    shape.diaphragm[side] -= _within(random, 0.05, 0.17, severity)
    shape.shift += side * _within(random, 0.01, 0.08, severity)


def _atelectasis(frame: Frame, random: Random, severity: float) -> Lesion:
    """Plates across the base, a collapsed lower lobe, or a collapsed upper lobe.

    The diaphragm of that side is raised. A collapsed lobe is bounded by its displaced fissure.
    """
    side, kind = _side(random), random.random()
    region, w, v = np.zeros_like(frame.v), frame.side(side), frame.v
    base = 0.98 + frame.pose.breath + frame.shape.diaphragm[side]
    inner = 0.20 if side == RIGHT else 0.34
    if kind < 0.6:
        for _ in range(int(random.integers(1, 4))):
            w0, v0 = float(random.uniform(inner + 0.14, 0.72)), base - random.uniform(0.08, 0.34)
            slope, long = float(random.normal(0.1, 0.3)), _within(random, 0.20, 0.42, severity)
            off = v - v0 - slope * (w - w0) + 0.35 * (w - w0) ** 2
            thick = _within(random, 0.018, 0.040, severity)
            plate = bump(off, 0.0, thick) * soft(long - np.abs(w - w0), 0.10)
            region = np.maximum(region, plate * frame.lungs[side])
    elif kind < 0.82:  # the lower lobe: a triangle that projects beyond the heart
        tall, broad = _within(random, 0.30, 0.55, severity), _within(random, 0.30, 0.55, severity)
        below = (v - base + tall) / tall
        region = soft(inner + broad * np.clip(below, 0, 1.2) - w, 0.04) * soft(below, 0.1)
        region = region * frame.lungs[side]
    else:  # the upper lobe: its fissure is drawn up towards the apex
        tall = _within(random, 0.20, 0.38, severity)
        edge = tall - float(random.uniform(0.05, 0.30)) * (w - 0.2)
        region = soft(edge - v, 0.03) * frame.lungs[side]
    region = region.astype(np.float32)
    return Lesion(_within(random, 0.26, 0.44, severity) * region, region, 0.7 * region)


# --- the lung: airspace --------------------------------------------------------------------------


def _patch(
    frame: Frame,
    random: Random,
    side: int,
    centre: tuple[float, float],
    extent: float,
    ragged: float,
) -> Map:
    """An irregular patch of lung around (w, v) with a radius of about ``extent``."""
    w, v = centre
    inside = _spot(frame, side, w, v, extent, 0.66 * extent)
    frayed = inside + ragged * clouds(random, frame.size, 9, 3)
    return soft(frayed, 0.35 + 0.5 * ragged) * frame.lungs[side]


def _consolidation(frame: Frame, random: Random, severity: float) -> Lesion:
    """Dense airspace with air bronchograms, sometimes bounded by a fissure."""
    side = _side(random)
    lower = random.random() < 0.65
    across, zone = float(random.uniform(0.42, 0.72)), (0.58, 0.84) if lower else (0.20, 0.45)
    centre = (across, float(random.uniform(*zone)))
    patch = _patch(frame, random, side, centre, _within(random, 0.24, 0.44, severity), 0.22)
    if random.random() < 0.45:  # a fissure cuts it off
        below = frame.v - centre[1] if lower else centre[1] - frame.v
        patch = patch * soft(below + float(random.uniform(0.0, 0.14)), 0.03)
    density = _within(random, 0.30, 0.48, severity) * patch
    heading, tubes = random.uniform(0.2, 1.0), np.zeros_like(frame.v)
    for turn in (-0.35, 0.0, 0.4):
        off = (frame.v - centre[1]) - math.tan(heading + turn) * 0.7 * (
            frame.side(side) - centre[0]
        )
        tubes = np.maximum(tubes, bump(off, 0.0, 0.014))
    return Lesion((density * (1 - 0.65 * tubes * patch)).astype(np.float32), patch, patch)


def _infiltration(frame: Frame, random: Random, severity: float) -> Lesion:
    """Faint, patchy and ill-defined haze in one or two places."""
    region = np.zeros_like(frame.v)
    for _ in range(int(random.integers(1, 4))):
        side = _side(random)
        centre = (float(random.uniform(0.28, 0.70)), float(random.uniform(0.25, 0.88)))
        extent = _within(random, 0.22, 0.38, severity)
        region = np.maximum(region, _patch(frame, random, side, centre, extent, 0.5))
    grains = np.clip(0.5 + 0.65 * clouds(random, frame.size, 26, 2), 0.0, 1.9)
    return Lesion(_within(random, 0.16, 0.30, severity) * region * grains, region, 0.35 * region)


def _pneumonia(frame: Frame, random: Random, severity: float) -> Lesion:
    """A segment with confluent density around its centre, between haze and consolidation."""
    side = _side(random, 0.58)
    centre = (float(random.uniform(0.32, 0.70)), float(random.uniform(0.48, 0.90)))
    extent = _within(random, 0.24, 0.42, severity)
    patch = _patch(frame, random, side, centre, extent, 0.32)
    core = _patch(frame, random, side, centre, 0.6 * extent, 0.25)
    fluff = np.clip(0.8 + 0.35 * clouds(random, frame.size, 14, 2), 0.1, 1.5)
    density = _within(random, 0.15, 0.24, severity) * patch * fluff
    density += _within(random, 0.15, 0.26, severity) * core
    return Lesion(density, patch, 0.6 * patch)


def _congest(shape: Shape, random: Random, severity: float) -> None:
    shape.vessels *= _within(random, 1.1, 1.8, severity)


def _edema(frame: Frame, random: Random, severity: float) -> Lesion:
    """Perihilar haze of both lungs, thick vessels and Kerley lines."""
    region, lines = np.zeros_like(frame.v), np.zeros_like(frame.v)
    noise = clouds(random, frame.size, 10, 3)
    reach = _within(random, 0.28, 0.52, severity)
    for side in SIDES:
        inside = _spot(frame, side, 0.22, 0.56, reach, 0.85 * reach) + 0.25 * noise
        region = np.maximum(region, soft(inside, 0.9) * frame.lungs[side])
        w, wall = frame.side(side), frame.wall(side)
        comb = bump((frame.v * 22.0 + random.uniform(0, 1)) % 1.0, 0.5, 0.12)
        edge = soft(0.10 - (wall - w), 0.03) * soft(frame.v - 0.62, 0.1) * frame.lungs[side]
        lines += comb * edge
    density = _within(random, 0.13, 0.29, severity) * region + 0.09 * (0.5 + severity) * lines
    return Lesion(density.astype(np.float32), region, 0.25 * region)


def _shrink(shape: Shape, random: Random, severity: float) -> None:
    low = _within(random, 0.02, 0.10, severity)
    for side in SIDES:
        shape.diaphragm[side] -= low


def _fibrosis(frame: Frame, random: Random, severity: float) -> Lesion:
    """Reticular lines at the bases and the periphery (or at the apices) of small lungs."""
    apical = random.random() < 0.25
    net = np.abs(clouds(random, frame.size, 26, 2))
    mesh = np.clip(1.0 - net / 0.5, 0.0, 1.0)
    extent = _within(random, 0.45, 0.80, severity)
    weight = np.zeros_like(frame.v)
    for side in SIDES:
        low = (1.0 - frame.v / (0.6 * extent)) if apical else (frame.v - 1.0 + extent) / extent
        outer = 0.35 + 0.65 * frame.position[side]
        weight += np.clip(1.7 * low, 0, 1) * outer * frame.lungs[side]
    region = np.clip(weight, 0, 1) * (1.0 - 0.8 * frame.heart)
    density = _within(random, 0.28, 0.44, severity) * region * mesh + 0.03 * region
    return Lesion(density.astype(np.float32), region.astype(np.float32), 0.3 * region)


PATHOLOGY: dict[str, Pathology] = {
    "Atelectasis": Pathology(_atelectasis, _lose_volume),
    "Cardiomegaly": Pathology(_cardiomegaly, _enlarge, chronic=True),
    "Effusion": Pathology(_effusion),
    "Infiltration": Pathology(_infiltration),
    "Mass": Pathology(_mass, chronic=True),
    "Nodule": Pathology(_nodule, chronic=True),
    "Pneumonia": Pathology(_pneumonia),
    "Pneumothorax": Pathology(_pneumothorax),
    "Consolidation": Pathology(_consolidation),
    "Edema": Pathology(_edema, _congest),
    "Emphysema": Pathology(_emphysema, _hyperinflate, chronic=True),
    "Fibrosis": Pathology(_fibrosis, _shrink, chronic=True),
    "Pleural_Thickening": Pathology(_pleural_thickening, chronic=True),
    "Hernia": Pathology(_hernia, chronic=True),
}
"""Every finding by its name in NIH ChestX-ray14."""
