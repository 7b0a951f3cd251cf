"""Absorption of a healthy chest: soft tissue, bones, vessels and airways of a phantom.

A phantom is a map of absorption, from 0 (air) to about 1.5 (metal), which the exposure converts to
grey levels at the end. Organs therefore add up as in a projection: a rib over the heart is brighter
than either of them.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from core.data.phantoms.anatomy import BEYOND, LEFT, RIGHT, SIDES, Frame, Map, Random, bump, soft


def torso(frame: Frame) -> Map:
    """Absorption of trunk, shoulders, neck and breasts, without the lungs."""
    body, u, v = frame.body, frame.u, frame.v
    away = np.abs(u)
    shoulder = -0.16 + 0.16 * np.clip(away - 0.3, 0, None) ** 1.3 + 0.05 * frame.pose.rotation * u
    trunk = soft(v - shoulder, 0.05)
    neck = soft(0.34 + 0.06 * body.habitus - away, 0.05)
    outline = 1.10 + 0.20 * body.habitus + 0.9 * soft(0.28 - v, 0.35)
    inside = np.maximum(trunk, neck) * soft(outline - away, 0.06)
    thick = 0.80 + 0.10 * body.habitus + 0.10 * np.clip(v, -0.2, 1.2)
    thick = thick * (0.80 + 0.20 * np.sqrt(np.clip(1.0 - (away / outline) ** 2, 0, 1)))
    below = np.maximum(soft(v - frame.diaphragm(RIGHT), 0.05) * (u < 0),
                       soft(v - frame.diaphragm(LEFT), 0.05) * (u >= 0))  # fmt: skip
    absorbs: Map = inside * (thick + 0.10 * below)
    if body.breast:
        for side in SIDES:
            bounds = frame.bounds((side * 0.08, side * 1.16), (0.53, 1.11))
            w, down = frame.side(side)[bounds], v[bounds]
            edge = 1.0 - np.sqrt(((w - 0.62) / 0.5) ** 2 + ((down - 0.82) / 0.26) ** 2)
            full = np.clip(0.4 + (down - 0.6) * 2.0, 0.2, 1.0) * (1.0 - 0.75 * below[bounds])
            absorbs[bounds] += 0.8 * body.breast * soft(edge, 0.12) * full
    return absorbs.astype(np.float32)


def bones(frame: Frame) -> Map:
    """Absorption of ribs, spine, clavicles, shoulder blades and humeral heads."""
    body, v = frame.body, frame.v
    total = np.zeros_like(v)
    deep = np.clip(1.2 - 2.2 * np.clip(v - 0.8, 0, 1), 0.3, 1.0)
    for side in SIDES:
        bounds = frame.chest[side]
        total[bounds] += _ribs(frame, side, deep[bounds])
        _add_shoulder(frame, side, total)
    bounds = frame.bounds((-0.11, 0.11), BEYOND)
    away = np.abs(frame.u[bounds] - frame.spine[bounds])
    column = soft(0.088 - away, 0.03)
    discs = 0.5 + 0.5 * np.cos(2 * math.pi * v[bounds] / 0.092)
    total[bounds] += column * (0.085 + 0.04 * discs) * (body.bone / 0.07)
    total[bounds] += 0.03 * soft(0.012 - np.abs(away - 0.06), 0.015) * soft(discs - 0.7, 0.3)
    return total


def _ribs(frame: Frame, side: int, deep: Map) -> Map:
    """Posterior and anterior ribs of one side, inside its bounds ``frame.chest``."""
    body, bounds = frame.body, frame.chest[side]
    w, wall, v = frame.side(side)[bounds], frame.wall(side)[bounds], frame.v[bounds]
    cage = deep * soft(wall * 1.035 - w, 0.03) * soft(w - 0.07, 0.05) * soft(1.22 - v, 0.08)
    fall = body.rib_slope * (w - 0.1) - 0.07 * np.sin(3.3 * w)
    fall = fall + 0.9 * np.clip(w - 0.6, 0, None) ** 2
    back = np.abs(((v - fall + 0.02) / body.rib_spacing + 0.5) % 1.0 - 0.5)
    ribs = body.bone * cage * _rib(back) * soft(v - fall + 0.04, 0.05)
    rise = 0.30 * w - 0.20 * np.clip(w - 0.7, 0, None)
    front = np.abs(((v + rise) / (1.12 * body.rib_spacing) + 0.1) % 1.0 - 0.5)
    ahead = soft(w - 0.34, 0.15) * soft(v + rise - 0.30, 0.08)
    return ribs + 0.55 * body.bone * cage * _rib(front) * ahead


def _add_shoulder(frame: Frame, side: int, total: Map) -> None:
    """Add clavicle, shoulder blade and humeral head of one side to ``total``."""
    bounds = frame.bounds((0.0, side * 1.6), (-0.35, 0.62))
    w, v = frame.side(side)[bounds], frame.v[bounds]
    collar = 0.115 - (0.10 + frame.body.clavicle) * w + 0.045 * np.sin(3.2 * w)
    collar = collar + 0.02 * side * frame.pose.rotation
    shaft = soft(0.021 - np.abs(v - collar), 0.016) * soft(w - 0.09, 0.04) * soft(1.12 - w, 0.08)
    border = (0.80 if frame.pose.supine else 0.95) + 0.18 * np.clip(v, 0, 0.6)
    blade = soft(w - border, 0.05) * soft(0.52 - v, 0.1) * soft(v + 0.02, 0.06)
    joint = 1.0 - np.sqrt(((w - 1.36) / 0.16) ** 2 + ((v - 0.05) / 0.13) ** 2)
    total[bounds] += 0.085 * shaft + 0.05 * blade * soft(1.45 - w, 0.1) + 0.14 * soft(joint, 0.2)


def _rib(distance: Map) -> Map:
    """Profile of a rib, with dense edges and a less dense middle; ``distance`` in rib spacings."""
    inside = soft(0.19 - distance, 0.07)
    return inside * (0.72 + 0.4 * bump(distance, 0.165, 0.05))


def vessels(frame: Frame, random: Random) -> Map:
    """Map of the hila and the branching vessels of both lungs, 0 to about 1."""
    size = frame.size
    canvas = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(canvas)
    scale = size / 256
    for side in SIDES:
        hilum = (side * 0.20, 0.45 if side == LEFT else 0.48)
        for angle in np.linspace(-1.25, 1.45, 9) + random.normal(0, 0.14, 9):
            heading = float(angle)
            _branch(frame, pen, random, side, hilum, heading, 3.0 * scale, 150)
    fine = canvas.reduce(2).filter(ImageFilter.GaussianBlur(0.7 * scale))
    tree: Map = np.asarray(fine, np.float32) / 255
    for side in SIDES:
        height = 0.45 if side == LEFT else 0.48
        root = bump(frame.side(side), 0.17, 0.075) * bump(frame.v, height, 0.085)
        tree = tree + 0.55 * root
    return tree


def _branch(
    frame: Frame,
    pen: ImageDraw.ImageDraw,
    random: Random,
    side: int,
    start: tuple[float, float],
    heading: float,
    width: float,
    ink: float,
) -> None:
    """Draw one vessel from the hilum outwards; each segment is thinner and fainter."""
    u, v = start
    a = frame.pixel(u, v)
    segments = int(random.integers(5, 9))
    for segment in range(segments):
        heading += float(random.normal(0, 0.20))
        step = 0.075
        u2, v2 = u + side * step * math.cos(heading), v + 1.1 * step * math.sin(heading)
        b = frame.pixel(u2, v2)
        pen.line([(2 * a[0], 2 * a[1]), (2 * b[0], 2 * b[1])], fill=int(ink),
                 width=max(1, round(2 * width)))  # fmt: skip
        if width > 1.0 and segment in (1, 3) and random.random() < 0.8:
            turn = heading + (-1, 1)[random.integers(2)] * float(random.uniform(0.4, 0.8))
            _branch(frame, pen, random, side, (u2, v2), turn, 0.55 * width, 0.8 * ink)
        u, v, a, width, ink = u2, v2, b, 0.80 * width, 0.86 * ink


def airways(frame: Frame) -> Map:
    """Trachea, main bronchi and gas in the stomach, as absorption to subtract."""
    body, aside = frame.body, 0.4 * frame.shape.shift
    missing: Map = np.zeros_like(frame.v)
    bounds = frame.bounds((aside - 0.09, aside + 0.07), (BEYOND[0], 0.45))
    u = frame.u[bounds] - frame.spine[bounds] - aside
    pipe = soft(0.045 - np.abs(u + 0.012), 0.025) * soft(0.40 - frame.v[bounds], 0.06)
    missing[bounds] = 0.10 * pipe
    for side, fall in ((RIGHT, 1.5), (LEFT, 0.9)):
        bounds = frame.bounds((aside - side * 0.03, aside + side * 0.2), (0.3, 0.72))
        w: Map = side * (frame.u[bounds] - frame.spine[bounds] - aside)
        v = frame.v[bounds]
        stem = np.abs(v - 0.39 - fall * np.clip(w, 0, 0.16))
        missing[bounds] += 0.05 * soft(0.028 - stem, 0.025) * soft(0.17 - w, 0.04) * soft(w, 0.03)
    if body.stomach:
        high, low = frame.dome(LEFT)
        depth = 1.3 * body.stomach
        bounds = frame.bounds((0.45 - 1.7 * depth, 0.45 + 1.7 * depth), (high, low + depth + 0.02))
        w = frame.side(LEFT)[bounds]
        under = frame.v[bounds] - frame.diaphragm(LEFT)[bounds]
        along = (w - 0.45) / (1.8 * body.stomach)
        beneath = (under - 0.6 * body.stomach) / (0.55 * body.stomach)
        bubble = 1.0 - np.sqrt(along**2 + beneath**2)
        missing[bounds] += 0.22 * soft(bubble, 0.35) * soft(under - 0.015, 0.015)
    return missing
