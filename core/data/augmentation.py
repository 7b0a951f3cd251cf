"""RandAugment and random erasing for grey images.

RandAugment (Cubuk et al., arXiv 1909.13719) in the variant of Lian et al., timm's
``rand-m9-mstd0.5-inc1``: two operations per image, each applied with probability 0.5, at a
magnitude of 9 ± 0.5 out of 10, where a larger magnitude always means a stronger change. Random
erasing (Zhong et al., arXiv 1708.04896) with noise in each pixel.

torchvision's ``v2.RandAugment`` cannot express this variant: it has no probability per operation,
no random magnitude and no ``solarize-add``, and a larger magnitude weakens ``posterize``. timm's
implementation draws from Python's and NumPy's global generators, so that a resumed run would not
repeat. Here all randomness comes from the given generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

OPERATIONS_PER_IMAGE = 2
PROBABILITY = 0.5
MAGNITUDE = 9.0
MAGNITUDE_STD = 0.5

ERASE_PROBABILITY = 0.25
ERASE_AREA = (0.02, 1 / 3)
ERASE_RATIO = (0.3, 1 / 0.3)
ERASE_TRIES = 10

Operation = Callable[[Tensor, float, float], Tensor]
"""Maps float grey levels 0..255 of shape (height, width), a magnitude 0..1 and a sign ±1."""


def rand_augment(image: Tensor, generator: torch.Generator, fill: float = 128.0) -> Tensor:
    """Change one image by two random operations.

    Args:
        image: Grey levels 0..255 of shape (height, width), any type.
        generator: Source of randomness.
        fill: Grey level of the area that a shift or a rotation uncovers.

    Returns:
        float32 of the same shape, 0 to 255.
    """
    values = image.float()
    for _ in range(OPERATIONS_PER_IMAGE):
        choice, chance, direction = torch.rand(3, generator=generator).tolist()
        spread = torch.randn(1, generator=generator).item() * MAGNITUDE_STD
        magnitude = min(10.0, max(0.0, MAGNITUDE + spread)) / 10
        if chance < PROBABILITY:
            name = list(OPERATIONS)[int(choice * len(OPERATIONS))]
            # Geometric operations fill with 0: the levels are shifted so that 0 is ``fill``.
            offset = fill if name in GEOMETRIC else 0.0
            changed = OPERATIONS[name](values - offset, magnitude, 1 if direction < 0.5 else -1)
            values = (changed + offset).clamp_(0, 255)
    return values


def erase(batch: Tensor, generator: torch.Generator) -> None:
    """Replace a random rectangle by normal noise, in place, in a quarter of the images.

    Args:
        batch: Normalised images of shape (images, channels, height, width).
        generator: Source of randomness.
    """
    _, channels, height, width = batch.shape
    low, high = (math.log(ratio) for ratio in ERASE_RATIO)
    for image in batch:
        if torch.rand(1, generator=generator).item() >= ERASE_PROBABILITY:
            continue
        for share, shape in torch.rand((ERASE_TRIES, 2), generator=generator).tolist():
            area = height * width * (ERASE_AREA[0] + share * (ERASE_AREA[1] - ERASE_AREA[0]))
            ratio = math.exp(low + shape * (high - low))
            rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if rows < height and columns < width:
                down, across = torch.rand(2, generator=generator).tolist()
                top = int(down * (height - rows + 1))
                left = int(across * (width - columns + 1))
                noise = torch.randn((channels, rows, columns), generator=generator)
                image[:, top : top + rows, left : left + columns] = noise
                break


def _auto_contrast(values: Tensor, magnitude: float, sign: float) -> Tensor:
    low, high = values.min(), values.max()
    return (values - low) * (255 / (high - low)) if high > low else values


def _equalize(values: Tensor, magnitude: float, sign: float) -> Tensor:
    levels = values.round().long()
    counts = torch.bincount(levels.flatten(), minlength=256)
    below = counts.cumsum(0) - counts[counts.nonzero()[0]]
    return (below * (255 / max(1, int(below[-1]))))[levels]


def _invert(values: Tensor, magnitude: float, sign: float) -> Tensor:
    return 255 - values


def _unchanged(values: Tensor, magnitude: float, sign: float) -> Tensor:
    return values


def _rotate(values: Tensor, magnitude: float, sign: float) -> Tensor:
    angle = math.radians(30 * magnitude * sign)
    cosine, sine = math.cos(angle), math.sin(angle)
    return _affine(values, [[cosine, sine, 0], [-sine, cosine, 0]])


def _shear_x(values: Tensor, magnitude: float, sign: float) -> Tensor:
    by = 0.3 * magnitude * sign
    return _affine(values, [[1, by, by], [0, 1, 0]])


def _shear_y(values: Tensor, magnitude: float, sign: float) -> Tensor:
    by = 0.3 * magnitude * sign
    return _affine(values, [[1, 0, 0], [by, 1, by]])


def _translate_x(values: Tensor, magnitude: float, sign: float) -> Tensor:
    return _affine(values, [[1, 0, 2 * 0.45 * magnitude * sign], [0, 1, 0]])


def _translate_y(values: Tensor, magnitude: float, sign: float) -> Tensor:
    return _affine(values, [[1, 0, 0], [0, 1, 2 * 0.45 * magnitude * sign]])


def _affine(values: Tensor, matrix: list[list[float]]) -> Tensor:
    """Apply an affine map of coordinates in −1..1, with bilinear sampling; 0 outside."""
    grid = affine_grid(torch.tensor([matrix]), [1, 1, *values.shape], align_corners=False)
    return grid_sample(values[None, None], grid, mode="bilinear", align_corners=False)[0, 0]


def _posterize(values: Tensor, magnitude: float, sign: float) -> Tensor:
    step = 2.0 ** (8 - (4 - int(4 * magnitude)))
    return torch.floor(values / step) * step


def _solarize(values: Tensor, magnitude: float, sign: float) -> Tensor:
    return torch.where(values < 256 - int(256 * magnitude), values, 255 - values)


def _solarize_add(values: Tensor, magnitude: float, sign: float) -> Tensor:
    return torch.where(values < 128, values + int(110 * magnitude), values)


def _factor(magnitude: float, sign: float) -> float:
    return max(0.1, 1 + 0.9 * magnitude * sign)


def _brightness(values: Tensor, magnitude: float, sign: float) -> Tensor:
    return values * _factor(magnitude, sign)


def _contrast(values: Tensor, magnitude: float, sign: float) -> Tensor:
    mean = values.mean()
    return mean + (values - mean) * _factor(magnitude, sign)


def _sharpness(values: Tensor, magnitude: float, sign: float) -> Tensor:
    kernel = torch.tensor([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13
    padded = pad(values[None, None], (1, 1, 1, 1), mode="replicate")
    smooth = conv2d(padded, kernel[None, None])[0, 0]
    return smooth + (values - smooth) * _factor(magnitude, sign)


OPERATIONS: dict[str, Operation] = {
    "auto-contrast": _auto_contrast,
    "equalize": _equalize,
    "invert": _invert,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize-add": _solarize_add,
    "colour": _unchanged,  # no effect on grey images; kept so that the others are drawn as often
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "translate-x": _translate_x,
    "translate-y": _translate_y,
}

GEOMETRIC = frozenset({"rotate", "shear-x", "shear-y", "translate-x", "translate-y"})
