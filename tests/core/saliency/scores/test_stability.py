import numpy as np
import pytest
import torch
from scipy import stats

from core.saliency.scores import stability


def test_correlations_are_spearman_s_and_pearson_s():
    generator = np.random.default_rng(0)
    first = generator.normal(size=(6, 7)).round(1).astype(np.float32)  # with ties
    second = (first + generator.normal(size=first.shape)).astype(np.float32)
    rank = stats.spearmanr(first.ravel(), second.ravel()).statistic
    assert stability.correlation(first, second) == pytest.approx(rank)
    plain = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert stability.correlation(first, second, ranked=False) == pytest.approx(plain)
    assert stability.correlation(first, np.exp(first)) == pytest.approx(1)
    holed = first.copy()
    holed[0] = np.nan
    rest = stats.spearmanr(first[1:].ravel(), second[1:].ravel()).statistic
    assert stability.correlation(holed, second) == pytest.approx(rest)
    assert np.isnan(stability.correlation(first, np.ones_like(first)))


def brightness(pixels: torch.Tensor) -> np.ndarray:
    """Maps that move with the image."""
    return pixels[:, 0].numpy()


def fixed(pixels: torch.Tensor) -> np.ndarray:
    """Maps that stay in place."""
    height, width = pixels.shape[-2:]
    one = np.add.outer(np.arange(height), 0.1 * np.arange(width)).astype(np.float32)
    return np.repeat(one[None], len(pixels), 0)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(3, 1, 24, 20, generator=torch.Generator().manual_seed(0))


def test_maps_that_move_with_the_image_are_stable_under_shifts(pixels):
    np.testing.assert_allclose(stability.under_shifts(brightness, pixels), 1, atol=1e-12)
    once = stability.under_shifts(fixed, pixels, shifts=((3, 0),))
    np.testing.assert_allclose(once, 1, atol=1e-12)  # the same order, only 3 lower
    lost = stability.under_shifts(lambda p: brightness(p.flip(0)), pixels)
    np.testing.assert_allclose(lost, 1, atol=1e-12)
    across = stability.under_shifts(
        lambda p: np.abs(np.sin(fixed(p))).astype(np.float32), pixels, shifts=((2, 0),)
    )
    assert (across < 0.6).all()


def test_noise_lowers_the_correlation_of_maps_that_depend_on_it(pixels):
    np.testing.assert_allclose(stability.under_noise(fixed, pixels), 1)
    little = stability.under_noise(brightness, pixels, noise=0.1)
    much = stability.under_noise(brightness, pixels, noise=2)
    assert little.shape == (3,)
    assert (little > 0.98).all()
    assert (much < 0.85).all()
    np.testing.assert_array_equal(little, stability.under_noise(brightness, pixels, noise=0.1))
