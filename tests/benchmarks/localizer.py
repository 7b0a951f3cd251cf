"""A network that is trained with masks of the findings, and the masks.

For ``python -m tests.benchmarks.phantoms --masks``: a label is one bit per image, from which a
network with random weights learns slowly; a mask is a label at every location.
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
"""Weight of the locations that show a finding, which are few."""

ALL_PLACES = 10.0
"""Weight of the loss over all locations relative to that of the whole image."""


def masks(dataset: Phantom, ids: Sequence[str], side: int, file: Path) -> NDArray[np.uint16]:
    """Masks of the findings of some studies, cached in a file.

    Args:
        dataset: The data set of the studies.
        ids: The studies.
        side: Side of the masks in pixels.
        file: The cache file.

    Returns:
        Shape (studies, side, side); bit ``i`` of a pixel is set if it belongs to finding ``i``.
    """
    if not file.exists():
        context = multiprocessing.get_context("fork")
        with context.Pool(os.cpu_count(), _start, (dataset, side)) as pool:
            np.save(file, np.stack(pool.map(_bits, ids, chunksize=64)))
    loaded: NDArray[np.uint16] = np.load(file)
    assert loaded.shape == (len(ids), side, side), f"{file} contains other masks: delete it"
    return loaded


_worker_state: tuple[Phantom, int]


def _start(dataset: Phantom, side: int) -> None:
    global _worker_state
    _worker_state = dataset, side


def _bits(study_id: str) -> NDArray[np.uint16]:
    dataset, side = _worker_state
    bits = np.zeros((side, side), np.uint16)
    for finding, mask in dataset.masks(study_id, side).items():
        bits |= mask.astype(np.uint16) << dataset.findings.index(finding)
    return bits


class Localizer(nn.Module):
    """A ResNet with a feature pyramid, which predicts findings per image and per location.

    Args:
        name: A ResNet of timm, with random weights.
        findings: Number of findings.
        width: Channels of the pyramid.
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
        """Logits of shape (studies, findings), and per location, (studies, findings, h, w)."""
        layers = self.trunk(x)
        features = self.lateral[-1](layers[-1])
        for lateral, layer in zip(self.lateral[-2::-1], layers[-2::-1], strict=True):
            larger = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = lateral(layer) + larger
        features = self.smooth(features)
        places = self.places(features).float()
        strongest = places.flatten(2).logsumexp(2)
        means = [features.mean((2, 3)).float(), layers[-1].mean((2, 3)).float()]
        return self.whole(torch.cat([strongest, *means], 1)), places


def place_loss(places: Tensor, bits: NDArray[np.uint16]) -> Tensor:
    """Cross-entropy over all locations.

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
