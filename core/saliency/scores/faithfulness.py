"""Faithfulness: whether the model's output depends on the pixels that a map marks.

An image is changed in the order of the map while the probability is recorded; no marked region is
needed. All maps in this module have the size of the network's input.
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
"""Standard deviation of the blur at the start of insertion, as a share of the input's side."""

SHARES = (0.2, 0.4, 0.6, 0.8)
"""Shares of the pixels that ROAD removes."""

NEIGHBOURS = (
    *((row, column, 1 / 6) for row, column in ((0, 1), (0, -1), (1, 0), (-1, 0))),
    *((row, column, 1 / 12) for row in (1, -1) for column in (1, -1)),
)
"""Rows and columns to each neighbour, and its weight in ROAD's interpolation."""

ROAD_NOISE = 0.01

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Faithfulness:
    """How closely a model's probability follows one map.

    Attributes:
        insertion: Area under the curve while the most salient pixels are inserted first; high is
            good.
        deletion: The same while they are deleted first; low is good.
        road: Mean of (least salient removed − most salient removed) / 2; above 0 is good.
    """

    insertion: float
    deletion: float
    road: float


def faithfulness(
    model: nn.Module, image: Tensor, values: Map, finding: int, *, seed: int = 0
) -> Faithfulness:
    """All three scores of one map.

    Args:
        model: The classifier.
        image: Network input of shape (channels, height, width).
        values: The map of shape (height, width).
        finding: Index of the output.
        seed: Seed of the order of pixels with equal values, and of ROAD's noise.
    """
    return Faithfulness(
        insertion=insertion(model, image, values, finding, seed=seed),
        deletion=deletion(model, image, values, finding, seed=seed),
        road=road(model, image, values, finding, seed=seed),
    )


def deletion(
    model: nn.Module, image: Tensor, values: Map, finding: int, *, steps: int = STEPS, seed: int = 0
) -> float:
    """Area under the probability while pixels become grey, the most salient first.

    Petsiuk, Das and Saenko, “RISE”, 2018, algorithm 1. Grey is the mean of the backbone's training
    images.

    Returns:
        0 to 1; low if the map marks what the model needs.
    """
    grey = torch.zeros_like(image)
    return _area(model, image, grey, order(values, seed), finding, steps)


def insertion(
    model: nn.Module, image: Tensor, values: Map, finding: int, *, steps: int = STEPS, seed: int = 0
) -> float:
    """Area under the probability while a blurred image becomes sharp, the most salient first.

    Petsiuk, Das and Saenko, “RISE”, 2018, section 4.3. A blurred image and not a grey one: single
    sharp pixels on grey would be an edge that the model reacts to.

    Returns:
        0 to 1; high if the map marks what the model needs.
    """
    sigma = BLUR * image.shape[-1]
    blurred = gaussian_blur(image[None], [2 * int(3 * sigma) + 1] * 2, [sigma, sigma])[0]
    return _area(model, blurred, image, order(values, seed), finding, steps)


def road(
    model: nn.Module,
    image: Tensor,
    values: Map,
    finding: int,
    *,
    shares: tuple[float, ...] = SHARES,
    seed: int = 0,
) -> float:
    """ROAD: remove pixels by noisy interpolation, and compare least with most salient first.

    Rong et al., “A Consistent and Efficient Evaluation Strategy for Attribution Methods”, 2022. The
    implementation of the library grad-cam cannot be used: it thresholds at percentiles, which do
    not exist for a map that is zero at most pixels, and it fails with NumPy 2. Here pixels are
    ranked.

    Returns:
        −0.5 to 0.5, the mean over shares of (least − most) / 2; 0 for an uninformative map.
    """
    ranked, generator = order(values, seed), np.random.default_rng(seed)
    pixels = image.cpu().numpy()
    changed = []
    for share in shares:
        count = round(share * len(ranked))
        # The least salient first: the difference below takes them at even indices.
        for removed in (ranked[-count:], ranked[:count]):
            kept = np.ones(values.size, np.bool_)
            kept[removed] = False
            changed.append(torch.from_numpy(impute(pixels, kept.reshape(values.shape), generator)))
    with layers.FrozenWeights(model), torch.inference_mode():
        batch = torch.stack(changed).to(image.device)
        probabilities = layers.logits(model(batch))[:, finding].sigmoid().float().cpu().numpy()
    return float((probabilities[0::2] - probabilities[1::2]).mean() / 2)


def impute(
    image: Map, kept: NDArray[np.bool_], generator: np.random.Generator, noise: float = ROAD_NOISE
) -> Map:
    """Replace removed pixels by the weighted mean of their neighbours, plus noise.

    Rong et al. 2022, section 4.2: direct neighbours have the weight 1/6, diagonal ones 1/12. A
    removed neighbour is unknown itself, so that all removed pixels are the solution of one sparse
    system of linear equations.

    Args:
        image: Shape (channels, height, width).
        kept: Shape (height, width); at least one pixel.
        generator: Source of the noise.
        noise: Its standard deviation.
    """
    height, width = kept.shape
    rows, columns = np.nonzero(~kept)
    number = np.full(kept.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    weights, known = np.zeros(len(rows)), np.zeros((len(rows), len(image)))
    entries = []
    for down, across, weight in NEIGHBOURS:
        r, c = rows + down, columns + across
        inside = np.flatnonzero((r >= 0) & (r < height) & (c >= 0) & (c < width))
        weights[inside] += weight
        # Kept neighbours are known and go to the right side, removed ones into the matrix.
        is_kept = kept[r[inside], c[inside]]
        given, missing = inside[is_kept], inside[~is_kept]
        known[given] += weight * image[:, r[given], c[given]].T
        entries.append((missing, number[r[missing], c[missing]], np.full(len(missing), -weight)))
    # At the border there are fewer neighbours: the diagonal holds the sum of their weights, so that
    # the result is a mean there too.
    diagonal = np.arange(len(rows))
    i, j, values = (
        np.concatenate(part) for part in zip(*entries, (diagonal, diagonal, weights), strict=True)
    )
    solved = splu(csc_array((values, (i, j)), shape=(len(rows),) * 2)).solve(known)
    filled = image.copy()
    filled[:, rows, columns] = solved.T + noise * generator.standard_normal(solved.T.shape)
    return filled


def order(values: Map, seed: int = 0) -> NDArray[np.intp]:
    """Indices of the pixels from the most to the least salient, equal ones in random order."""
    # In their own order, equal pixels (most of a sparse map) would be removed from top to bottom.
    flat = np.nan_to_num(values, nan=-np.inf).ravel()
    shuffled = np.random.default_rng(seed).permutation(len(flat))
    return np.asarray(shuffled[np.argsort(-flat[shuffled], kind="stable")])


def _area(
    model: nn.Module, start: Tensor, end: Tensor, ranked: NDArray[np.intp], finding: int, steps: int
) -> float:
    """Area under the probability while ``start`` becomes ``end`` in ``steps`` equal steps."""
    images = start[None].repeat(steps + 1, 1, 1, 1).flatten(2)
    indices = torch.from_numpy(ranked.copy()).to(start.device)
    for step in range(1, steps + 1):
        changed = indices[: round(step * len(ranked) / steps)]
        images[step][:, changed] = end.flatten(1)[:, changed]
    batch = images.reshape(steps + 1, *start.shape)
    with layers.FrozenWeights(model), torch.inference_mode():
        probabilities = layers.logits(model(batch))[:, finding].sigmoid().double().cpu().numpy()
    return float(np.trapezoid(probabilities, dx=1 / steps))
