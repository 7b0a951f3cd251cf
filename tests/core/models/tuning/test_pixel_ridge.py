"""The network of the method ``pixels``."""

import pytest
import torch

from core.models.tuning.pixel_ridge import PixelRidge, small_images


@pytest.mark.parametrize(
    ("mean", "std", "channels"), [(0.5, 0.25, 1), ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 3)]
)
def test_its_features_are_mean_grey_levels_of_squares(
    mean: float | tuple[float, ...], std: float | tuple[float, ...], channels: int
) -> None:
    grey = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    model = PixelRidge(3, mean, std)
    normal = (grey.expand(-1, channels, -1, -1) - model.mean) / model.std
    features = model.forward_features(normal)
    assert features.shape == (2, 32 * 32)
    torch.testing.assert_close(features[1, 33], grey[1, 0, 2:4, 2:4].mean(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(features, small_images(grey), atol=1e-6, rtol=1e-5)


def test_platt_scaling_follows_the_ridge() -> None:
    model, pixels = PixelRidge(2, 0.5, 0.25), torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        model.slope.copy_(torch.tensor([2.0, 3.0]))
        model.shift.copy_(torch.tensor([-1.0, 1.0]))
        scores = model.head(model.forward_features(pixels))
        assert torch.equal(model(pixels), scores * model.slope + model.shift)
