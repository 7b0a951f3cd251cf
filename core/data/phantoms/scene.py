"""A phantom patient with findings: the maps of a study, before the exposure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.phantoms import anatomy, exposure, report_text, tissue
from core.data.phantoms.pathology import PATHOLOGY, Lesion

MASK_LEVEL = 1 / 3
"""Share of lesion above which a pixel belongs to the mask of a finding."""

TUBE_LEVEL = 0.03
"""Absorption above which a device is visible."""

MOST_ADDED = 0.6
"""Limit of the absorption that all lesions together add."""

BOTH_SIDES = 0.1
"""Share of a lesion on one side above which the side is named in a report."""

ZONES = 0.36, 0.62
"""Lower limits of the upper and the middle zone of the lungs, 0 at the apex, 1 at the diaphragm."""


@dataclass(frozen=True)
class Scene:
    """A patient with findings, before the exposure.

    Attributes:
        frame: The thorax coordinates and organs.
        lesions: What each drawn finding adds, by name in ``PATHOLOGY``.
        severity: Severity of each finding of the study, 0 to 1, including one that is not drawn.
        devices: Tubes and wires.
        random: Returns the random numbers of one purpose, by default of this study.
    """

    frame: anatomy.Frame
    lesions: dict[str, Lesion]
    severity: dict[str, float]
    devices: list[exposure.Device]
    random: Callable[..., np.random.Generator]

    def image(self) -> NDArray[np.uint8]:
        """Return the exposed radiograph: grey levels of shape (size, size), 0 to 255."""
        vessels, texture = self.random("vessels", 0), self.random("texture")
        absorption = _absorption(self.frame, self.lesions, vessels, texture)
        absorption += exposure.draw_devices(self.frame, self.devices)
        return exposure.expose(absorption, self.frame, self.random("film"))

    def distractors(self) -> dict[str, NDArray[np.bool_]]:
        """Return masks of ``tubes``, ``marker`` and ``collimator``, as far as they are visible."""
        masks = exposure.overlay_masks(self.frame, self.random("film"))
        if self.devices:
            absorption = exposure.draw_devices(self.frame, self.devices)
            masks["tubes"] = np.asarray(absorption > TUBE_LEVEL)
        return {name: mask for name, mask in masks.items() if mask.any()}

    def report(self, view: str) -> str:
        """Write a radiology report of the findings."""
        remarks = [
            report_text.Remark(name, self.severity[name], *_site(self.frame, lesion))
            for name, lesion in self.lesions.items()
        ]
        return report_text.compose(view, remarks, self.random("report"))


def draw_scene(
    row: Mapping[Hashable, Any],
    size: int,
    seed: Sequence[int],
    *,
    spread: float,
    without: Collection[str] = (),
) -> Scene:
    """Draw the patient of a study, with lesions and devices.

    Args:
        row: The study, a row of ``population.draw_studies``.
        size: Side of the maps in pixels; any size shows the same patient.
        seed: Seed of the data set; the patient and the study are added to it.
        spread: Variation of position and exposure; see ``anatomy.Pose.draw``.
        without: Findings that are not drawn; everything else stays the same.
    """
    number, study = int(row["number"]), int(row["study"])

    def random(purpose: str, nth: int = study) -> np.random.Generator:
        return np.random.default_rng([*seed, number, nth, zlib.crc32(purpose.encode())])

    def nth_of(name: str) -> int:
        """The study whose random numbers a finding uses: 0 if it is the same in all studies."""
        return 0 if PATHOLOGY[name].chronic else study

    present = [name for name in PATHOLOGY if row[name]]
    drawn = [name for name in present if name not in without]
    severity = {
        name: float(random(f"marked {name}", nth_of(name)).beta(1.7, 1.5)) for name in present
    }
    supine = row["view"] == "AP"
    body = anatomy.Body.draw(random("body", 0), row["sex"] == "F", float(row["age"]))
    pose = anatomy.Pose.draw(random("pose"), supine, body, spread)
    variation = random("shape")
    shape = anatomy.Shape(
        heart=float(np.clip(variation.normal(1.0, 0.02), 0.94, 1.06)),
        diaphragm={side: float(variation.normal(0, 0.015)) for side in anatomy.SIDES},
        shift=float(variation.normal(0, 0.012)),
    )
    for name in drawn:
        reshape = PATHOLOGY[name].reshape
        if reshape is not None:
            reshape(shape, random(name, nth_of(name)), severity[name])
    frame = anatomy.Frame(size, body, pose, shape)
    lesions = {
        name: PATHOLOGY[name].draw(frame, random(name, nth_of(name)), severity[name])
        for name in drawn
    }
    devices = exposure.devices(random("devices"), supine, _drained_side(random, present))
    return Scene(frame, lesions, severity, devices, random)


def _drained_side(
    random: Callable[[str], np.random.Generator], present: Sequence[str]
) -> int | None:
    """Return the side of a chest tube, which a third of the pneumothoraces have."""
    if "Pneumothorax" not in present or random("drain").random() > 0.33:
        return None
    return anatomy.RIGHT if random("Pneumothorax").random() < 0.52 else anatomy.LEFT


def _site(frame: anatomy.Frame, lesion: Lesion) -> tuple[tuple[str, ...], str]:
    """Return the sides of a lesion, and the zone of the lung at its centre."""
    inside = lesion.region > MASK_LEVEL
    if not inside.any():
        inside = lesion.region >= lesion.region.max()
    right = float((frame.side(anatomy.RIGHT)[inside] > 0).mean())
    sides = [name for name, share in (("right", right), ("left", 1 - right)) if share > BOTH_SIDES]
    height = float(frame.v[inside].mean())
    zone = "upper" if height < ZONES[0] else "middle" if height < ZONES[1] else "lower"
    return tuple(sides), zone


def _absorption(
    frame: anatomy.Frame,
    lesions: dict[str, Lesion],
    vessels: np.random.Generator,
    texture: np.random.Generator,
) -> anatomy.Map:
    """Add up the absorption of everything in the beam."""
    air = np.zeros_like(frame.v)
    for side in anatomy.SIDES:
        turned = 1.0 + 0.06 * side * frame.pose.rotation
        air += turned * frame.lungs[side] * frame.depth[side]
    covered = 1.0 - np.maximum(0.86 * frame.heart, 0.95 * frame.mediastinum)
    total = tissue.torso(frame)
    total -= anatomy.LUNG_CONTRAST * frame.shape.air * air * covered
    total += 0.09 * frame.heart + 0.05 * frame.mediastinum
    total += tissue.bones(frame) * (1.0 - 0.3 * frame.heart)
    total -= tissue.airways(frame)

    visible = np.minimum(air, 1.0) * (1.0 - 0.8 * frame.heart)
    markings = frame.shape.vessels * 0.24 * tissue.vessels(frame, vessels)
    markings = markings + 0.012 * anatomy.clouds(texture, frame.size, 40, 2)
    for lesion in lesions.values():
        if lesion.erased is not None:
            markings = markings * (1.0 - np.clip(lesion.erased, 0, 1))
    total += visible * markings
    total += 0.012 * anatomy.clouds(texture, frame.size, 5, 3) * np.clip(total * 3, 0, 1)
    # Where heart or mediastinum are in the beam there is less lung for a lesion to fill.
    free = 1.0 - 0.75 * np.maximum(frame.heart, frame.mediastinum)
    added = np.zeros_like(total)
    for name, lesion in lesions.items():
        added += lesion.density * (1.0 if name == "Hernia" else free)
    # However many lesions overlap, a lung cannot become denser than tissue.
    total += np.where(
        added > 0, MOST_ADDED * (1.0 - np.exp(-np.maximum(added, 0) / MOST_ADDED)), added
    )
    return np.maximum(total, 0.0).astype(np.float32)
