import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from core.saliency.scores import faithfulness

SIDE = 8


class Pixels(nn.Module):
    """The logit of a finding is the weighted sum of the pixels."""

    num_classes = 1

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = torch.from_numpy(weights.astype(np.float32))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels[:, 0] * self.weights).sum(dim=(1, 2))[:, None]


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


@pytest.fixture
def known():
    """A model that needs four pixels, 1 each, on an image of ones."""
    weights = np.zeros((SIDE, SIDE), np.float32)
    weights[2:4, 2:4] = 1
    return Pixels(weights), torch.ones(1, SIDE, SIDE), weights


def test_deletion_is_the_area_of_the_published_curve(known):
    model, image, right = known
    # In 16 steps of 4 pixels: the right map takes all four at the first step.
    curve = np.array([sigmoid(4), *[0.5] * 16])
    found = faithfulness.deletion(model, image, right, 0, steps=16)
    assert found == pytest.approx(np.trapezoid(curve, dx=1 / 16), abs=1e-6)
    wrong = faithfulness.deletion(model, image, 1 - right, 0, steps=16)
    curve = np.array([*[sigmoid(4)] * 16, 0.5])
    assert wrong == pytest.approx(np.trapezoid(curve, dx=1 / 16), abs=1e-6)


def test_insertion_starts_from_a_blurred_image():
    weights = np.zeros((64, 64), np.float32)
    weights[20:22, 30:32] = 1
    model, image = Pixels(weights), torch.from_numpy(weights)[None]
    blurred = gaussian_filter(weights, 5 / 224 * 64, truncate=3)[20:22, 30:32].sum()
    ends = (sigmoid(blurred) + sigmoid(4)) / 2
    assert faithfulness.insertion(model, image, weights, 0, steps=1) == pytest.approx(
        ends, abs=0.01
    )
    good = faithfulness.insertion(model, image, weights, 0)
    bad = faithfulness.insertion(model, image, 1 - weights, 0)
    assert good > bad + 0.2
    assert good < sigmoid(4)


def test_road_is_positive_for_a_correct_map(known):
    _, _, right = known
    model = Pixels(right * 4)
    image = -torch.ones(1, SIDE, SIDE)
    image[0, 2:4, 2:4] = 1
    good = faithfulness.road(model, image, right, 0, shares=(0.1, 0.2))
    # Without the four pixels their surroundings take their place: from 16 to about −16.
    assert good == pytest.approx(0.5, abs=0.01)
    assert faithfulness.road(model, image, 1 - right, 0, shares=(0.1, 0.2)) == pytest.approx(
        -0.5, abs=0.01
    )
    again = faithfulness.road(model, image, right, 0, shares=(0.1, 0.2))
    assert good == again


def test_missing_pixels_become_the_mean_of_their_neighbours():
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3) ** 2
    kept = np.ones((3, 3), np.bool_)
    kept[1, 1] = False
    generator = np.random.default_rng(0)
    found = faithfulness.impute(image, kept, generator, noise=0)
    direct, diagonal = (1 + 9 + 25 + 49) / 6, (0 + 4 + 36 + 64) / 12
    assert found[0, 1, 1] == pytest.approx(direct + diagonal)
    assert (found[0][kept] == image[0][kept]).all()
    # In a corner only three neighbours are left, and two missing ones lean on each other.
    kept[:] = True
    kept[0, :2] = False
    a, b = faithfulness.impute(image, kept, generator, noise=0)[0, 0, :2]
    assert a == pytest.approx((b / 6 + 9 / 6 + 16 / 12) / (5 / 12), rel=1e-5)
    assert b == pytest.approx((a / 6 + 4 / 6 + 16 / 6 + 9 / 12 + 25 / 12) / (8 / 12), rel=1e-5)


def test_equal_pixels_are_in_random_order_and_nan_last():
    values = np.array([[0, 2, 0], [np.nan, 1, 0]], np.float32)
    found = faithfulness.order(values)
    assert found[:2].tolist() == [1, 4]
    assert found[-1] == 3
    orders = {tuple(faithfulness.order(np.zeros((3, 3), np.float32), seed)) for seed in range(5)}
    assert len(orders) == 5


def test_all_three_together_leave_the_random_state_alone(known):
    model, image, right = known
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    found = faithfulness.faithfulness(model, image, right, 0)
    assert torch.rand(1) == expected
    assert 0 < found.deletion < found.insertion < 1
