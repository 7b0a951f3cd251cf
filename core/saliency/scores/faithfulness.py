"""Whether the model's answer depends on what a map marks, without anybody's boxes.

A picture is changed in the order of the map and the probability followed. All maps here lie over
the network's input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from core.saliency.methods import layers

STEPS = 32
BLUR = 5 / 224
"""Standard deviation of the blur that insertion starts from, as a share of the input's side."""

SHARES = (0.2, 0.4, 0.6, 0.8)
"""Of the pixels that ROAD removes in turn."""

NEIGHBOURS = (
    *((down, across, 1 / 6) for down, across in ((0, 1), (0, -1), (1, 0), (-1, 0))),
    *((down, across, 1 / 12) for down in (1, -1) for across in (1, -1)),
)
"""Rows and columns to each neighbour, and what it counts in ROAD's interpolation."""

ROAD_NOISE = 0.01

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Faithfulness:
    """How far a model's probability follows one map.

    Attributes:
        insertion: Area under the curve while the most marked pixels appear first; high is good.
        deletion: The same while they vanish first; low is good.
        road: Mean of (least marked removed − most marked removed) / 2; above 0 is good.
    """

    insertion: float
    deletion: float
    road: float


def faithfulness(
    model: nn.Module, picture: Tensor, values: Map, finding: int, *, seed: int = 0
) -> Faithfulness:
    """All three scores of one map.

    Args:
        model: The classifier.
        picture: Network input of shape (channels, height, width).
        values: The map of shape (height, width).
        finding: Index of the output.
        seed: Of the order of equally marked pixels and of ROAD's noise.
    """
    return Faithfulness(
        insertion=insertion(model, picture, values, finding, seed=seed),
        deletion=deletion(model, picture, values, finding, seed=seed),
        road=road(model, picture, values, finding, seed=seed),
    )


def deletion(
    model: nn.Module,
    picture: Tensor,
    values: Map,
    finding: int,
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> float:
    """Area under the probability while the most marked pixels turn grey first.

    Petsiuk, Das and Saenko, “RISE”, 2018, algorithm 1. Grey is the mean of the backbone's training
    pictures.

    Returns:
        0 to 1; low where the map marks what the model needs.
    """
    grey = torch.zeros_like(picture)
    return _area(model, picture, grey, order(values, seed), finding, steps)


def insertion(
    model: nn.Module,
    picture: Tensor,
    values: Map,
    finding: int,
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> float:
    """Area under the probability while the most marked pixels of a blurred picture appear first.

    Petsiuk, Das and Saenko, “RISE”, 2018, section 4.3.

    Returns:
        0 to 1; high where the map marks what the model needs.
    """
    sigma = BLUR * picture.shape[-1]
    blurred = gaussian_blur(picture[None], [2 * int(3 * sigma) + 1] * 2, [sigma, sigma])[0]
    return _area(model, blurred, picture, order(values, seed), finding, steps)


def road(
    model: nn.Module,
    picture: Tensor,
    values: Map,
    finding: int,
    *,
    shares: tuple[float, ...] = SHARES,
    seed: int = 0,
) -> float:
    """ROAD: remove pixels by noisy interpolation, and subtract most from least marked first.

    Rong et al., “A Consistent and Efficient Evaluation Strategy for Attribution Methods”, 2022. The
    library grad-cam's own cannot be used: it cuts at percentiles, and a map that is zero in most
    places has none below; and it fails with NumPy 2. Pixels are ranked here.

    Returns:
        −0.5 to 0.5, the mean over shares of (least − most) / 2; 0 for a map that tells nothing.
    """
    ranked, generator = order(values, seed), np.random.default_rng(seed)
    pixels = picture.cpu().numpy()
    changed = []
    for share in shares:
        count = round(share * len(ranked))
        for gone in (ranked[-count:], ranked[:count]):
            kept = np.ones(values.size, np.bool_)
            kept[gone] = False
            changed.append(torch.from_numpy(impute(pixels, kept.reshape(values.shape), generator)))
    with layers.Frozen(model), torch.inference_mode():
        batch = torch.stack(changed).to(picture.device)
        answers = layers.logits(model(batch))[:, finding].sigmoid().float().cpu().numpy()
    return float((answers[0::2] - answers[1::2]).mean() / 2)


def impute(
    picture: Map, kept: NDArray[np.bool_], generator: np.random.Generator, noise: float = ROAD_NOISE
) -> Map:
    """Fill what is not kept so that each pixel is the weighted mean of its neighbours, plus noise.

    Rong et al. 2022, section 4.2: direct neighbours count 1/6, diagonal ones 1/12.

    Args:
        picture: Shape (channels, height, width).
        kept: Shape (height, width); at least one pixel.
        generator: Source of the noise.
        noise: Its standard deviation.
    """
    height, width = kept.shape
    rows, columns = np.nonzero(~kept)
    number = np.full(kept.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    weight, known = np.zeros(len(rows)), np.zeros((len(rows), len(picture)))
    entries = []
    for down, across, counts in NEIGHBOURS:
        r, c = rows + down, columns + across
        inside = np.flatnonzero((r >= 0) & (r < height) & (c >= 0) & (c < width))
        weight[inside] += counts
        there = kept[r[inside], c[inside]]
        given, missing = inside[there], inside[~there]
        known[given] += counts * picture[:, r[given], c[given]].T
        entries.append((missing, number[r[missing], c[missing]], np.full(len(missing), -counts)))
    at = np.arange(len(rows))
    i, j, values = (np.concatenate(part) for part in zip(*entries, (at, at, weight), strict=True))
    solved = splu(csc_array((values, (i, j)), shape=(len(rows),) * 2)).solve(known)
    filled = picture.copy()
    filled[:, rows, columns] = solved.T + noise * generator.standard_normal(solved.T.shape)
    return filled


def order(values: Map, seed: int = 0) -> NDArray[np.intp]:
    """Pixels from the most marked to the least, equally marked ones in random order."""
    flat = np.nan_to_num(values, nan=-np.inf).ravel()
    shuffled = np.random.default_rng(seed).permutation(len(flat))
    return np.asarray(shuffled[np.argsort(-flat[shuffled], kind="stable")])


def _area(
    model: nn.Module,
    start: Tensor,
    end: Tensor,
    ranked: NDArray[np.intp],
    finding: int,
    steps: int,
) -> float:
    """Trapezoid over the probability while ``start`` becomes ``end`` in ``steps`` equal parts."""
    pictures = start[None].repeat(steps + 1, 1, 1, 1).flatten(2)
    places = torch.from_numpy(ranked.copy()).to(start.device)
    for step in range(1, steps + 1):
        some = places[: round(step * len(ranked) / steps)]
        pictures[step][:, some] = end.flatten(1)[:, some]
    shaped = pictures.reshape(steps + 1, *start.shape)
    with layers.Frozen(model), torch.inference_mode():
        answers = layers.logits(model(shaped))[:, finding].sigmoid().double().cpu().numpy()
    return float(np.trapezoid(answers, dx=1 / steps))
