import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from core.data.base import Box
from core.errors import DataError
from core.saliency.scores import localisation

SHAPE = (12, 16)
maps = arrays.arrays(np.float32, SHAPE, elements=st.floats(0, 8, width=16))
regions = arrays.arrays(np.bool_, SHAPE).filter(np.any)


@pytest.fixture
def region():
    return localisation.region_of([Box("Mass", 4, 2, 6, 5)], SHAPE)


def peaked(row, column, height=1.0):
    values = np.zeros(SHAPE, np.float32)
    values[row, column] = height
    return values


def test_a_box_covers_the_pixels_whose_centre_is_inside(region):
    assert region.sum() == 30
    assert region[2:7, 4:10].all()
    beyond = localisation.region_of(
        [Box("Mass", -3, -3, 5.4, 5.6), Box("Mass", 15, 11, 9, 9)], SHAPE
    )
    assert np.argwhere(beyond).tolist() == [[r, c] for r in (0, 1, 2) for c in (0, 1)] + [[11, 15]]


def test_the_pointing_game_allows_its_tolerance(region):
    assert localisation.pointing_game(peaked(3, 5), region)
    assert not localisation.pointing_game(peaked(3, 12), region)
    assert localisation.pointing_game(peaked(3, 12), region, tolerance=3)
    assert not localisation.pointing_game(peaked(9, 12), region, tolerance=4)
    assert localisation.pointing_game(peaked(9, 12), region, tolerance=4.3)


def test_a_constant_map_misses_and_a_plateau_points_at_its_centre(region):
    assert not localisation.pointing_game(np.ones(SHAPE, np.float32), region)
    plateau = np.zeros(SHAPE, np.float32)
    plateau[2:7, 0:14] = 1
    assert localisation.pointing_game(plateau, region)


def test_energy_is_a_share_of_the_sum(region):
    assert localisation.energy_inside(peaked(3, 5) + peaked(11, 0, 3.0), region) == pytest.approx(
        0.25
    )
    even = np.ones(SHAPE, np.float32)
    assert localisation.energy_inside(even, region) == pytest.approx(region.mean())
    assert math.isnan(localisation.energy_inside(np.zeros(SHAPE, np.float32), region))


def test_pixels_outside_of_the_input_count_as_missed(region):
    values = region.astype(np.float32)
    assert localisation.iou(values, region) == 1
    values[:, :7] = np.nan
    assert localisation.iou(values, region) == pytest.approx(0.5)
    assert localisation.best_iou(values, region)[0] == pytest.approx(0.5)
    assert localisation.energy_inside(values, region) == 1


def test_iou_thresholds_at_a_share_of_the_peak(region):
    values = region * np.float32(0.4) + peaked(11, 15, 1.0)
    assert localisation.iou(values, region, 0.5) == 0
    assert localisation.iou(values, region, 0.3) == pytest.approx(30 / 31)
    assert localisation.best_iou(values, region) == (pytest.approx(30 / 31), pytest.approx(0.4))


def test_all_scores_together(region):
    found = localisation.score(region.astype(np.float32), region)
    assert found == localisation.Scores(True, 1.0, 1.0, 1.0, 1.0, pytest.approx(30 / 192))
    nothing = localisation.score(np.zeros(SHAPE, np.float32), region)
    assert (nothing.hit, nothing.iou, nothing.best_iou) == (False, 0, 0)


@given(values=maps, region=regions, threshold=st.floats(0.01, 1))
def test_bounds_hold_for_any_map(values, region, threshold):
    best, at = localisation.best_iou(values, region)
    fixed = localisation.iou(values, region, threshold)
    assert 0 <= fixed <= best + 1e-12 <= 1 + 1e-9
    energy = localisation.energy_inside(values, region)
    assert math.isnan(energy) == (values.max() == 0)
    if energy == energy:
        assert 0 <= energy <= 1 + 1e-9
        at_peak = np.float32(at * values.max())
        cut = values >= np.float32(at_peak * (1 - 1e-6))  # the share may have been rounded up
        assert best == pytest.approx((cut & region).sum() / (cut | region).sum())
    if localisation.pointing_game(values, region):
        assert best > 0


@given(values=maps, region=regions, scale=st.sampled_from([0.125, 2.0, 64.0]))
def test_scores_do_not_depend_on_the_map_s_unit(values, region, scale):
    ours, other = (
        localisation.score(values, region),
        localisation.score(values * np.float32(scale), region),
    )
    np.testing.assert_equal(vars(ours), vars(other))


def test_invalid_input_is_reported(region):
    values = np.ones(SHAPE, np.float32)
    with pytest.raises(DataError, match=r"12 × 15 px, the marked region 12 × 16"):
        localisation.iou(values[:, 1:], region)
    with pytest.raises(DataError, match="region is empty"):
        localisation.score(values, np.zeros(SHAPE, np.bool_))
    with pytest.raises(DataError, match="no finite value"):
        localisation.pointing_game(values * np.nan, region)
    with pytest.raises(DataError, match="threshold 0 is not a share"):
        localisation.iou(values, region, 0)


def test_the_border_follows_the_edges():
    frame = localisation.border_of((32, 64))
    assert frame[:2].all()
    assert frame[:, -4:].all()
    assert not frame[2:-2, 4:-4].any()
    assert frame.sum() == 32 * 64 - 28 * 56
