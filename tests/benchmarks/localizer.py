"""A network that is told where the findings lie, and the masks it learns from.

For ``python -m tests.benchmarks.phantoms --masks``: that a finding is there is one bit a picture,
and a network from random weights needs many pictures for little; its mask says it at every place.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.data.phantoms.dataset import Phantom

PRESENT = 5.0
"""Weight of the places that show a finding: there are few of them."""

ALL_PLACES = 10.0
"""Weight of the places against the picture as a whole."""


def masks(dataset: Phantom, ids: Sequence[str], side: int, kept: Path) -> NDArray[np.uint16]:
    """Where the findings of studies lie, kept in a file.

    Args:
        dataset: Where the studies come from.
        ids: Which ones.
        side: Side of the masks in pixels.
        kept: The file.

    Returns:
        Shape (studies, side, side); bit ``i`` of a pixel says that it belongs to finding ``i``.
    """
    if not kept.exists():
        context = multiprocessing.get_context("fork")
        with context.Pool(os.cpu_count(), _start, (dataset, side)) as pool:
            np.save(kept, np.stack(pool.map(_bits, ids, chunksize=64)))
    found: NDArray[np.uint16] = np.load(kept)
    assert found.shape == (len(ids), side, side), f"{kept} holds other masks: delete it"
    return found


_asked: tuple[Phantom, int]


def _start(dataset: Phantom, side: int) -> None:
    global _asked
    _asked = dataset, side


def _bits(study_id: str) -> NDArray[np.uint16]:
    dataset, side = _asked
    bits = np.zeros((side, side), np.uint16)
    for finding, mask in dataset.masks(study_id, side).items():
        bits |= mask.astype(np.uint16) << dataset.findings.index(finding)
    return bits


class Localizer(nn.Module):
    """A ResNet whose deep layers are laid over its shallow ones, so that it sees what lies where.

    Args:
        name: A ResNet of timm's, from random weights.
        findings: How many there are.
        width: Channels of the places.
    """

    def __init__(self, name: str, findings: int, width: int = 128) -> None:
        super().__init__()
        self.trunk = timm.create_model(name, in_chans=1, features_only=True, out_indices=(2, 3, 4))
        channels = self.trunk.feature_info.channels()
        self.lateral = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.places = nn.Conv2d(width, findings, 1)
        self.whole = nn.Linear(findings + width + channels[-1], findings)
        nn.init.constant_(self.places.bias, -4.0)
        with torch.no_grad():
            self.whole.weight[:, :findings].copy_(0.5 * torch.eye(findings))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of shape (studies, findings), and of each place, (studies, findings, h, w)."""
        layers = self.trunk(x)
        seen = self.lateral[-1](layers[-1])
        for lateral, layer in zip(self.lateral[-2::-1], layers[-2::-1], strict=True):
            larger = nn.functional.interpolate(seen, scale_factor=2.0, mode="nearest")
            seen = lateral(layer) + larger
        seen = self.smooth(seen)
        places = self.places(seen).float()
        strongest = places.flatten(2).logsumexp(2)
        means = [seen.mean((2, 3)).float(), layers[-1].mean((2, 3)).float()]
        return self.whole(torch.cat([strongest, *means], 1)), places


def place_loss(places: Tensor, bits: NDArray[np.uint16]) -> Tensor:
    """Cross-entropy over all places.

    Args:
        places: Logits of shape (studies, findings, h, w).
        bits: Masks of shape (studies, side, side) (see ``masks``), side a multiple of ``h``.
    """
    numbers = torch.from_numpy(bits.astype(np.int32))[:, None]
    each = torch.arange(places.shape[1], dtype=torch.int32)[None, :, None, None]
    shown = ((numbers >> each) & 1).float()
    shown = nn.functional.max_pool2d(shown, bits.shape[1] // places.shape[2])
    loss: Tensor = nn.functional.binary_cross_entropy_with_logits(
        places, shown, pos_weight=torch.tensor(PRESENT)
    )
    return ALL_PLACES * loss
