"""Phantoms: reproducible, consistent with their labels, and neither trivial nor hopeless."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from core.build_assets import phantoms
from core.data import findings
from core.data.datasets.registry import open_dataset
from core.data.images import grey
from core.data.phantoms import prerendered
from core.data.phantoms.anatomy import SIDES, Frame
from core.data.phantoms.dataset import SPREAD, Phantom
from core.data.phantoms.pathology import PATHOLOGY
from core.data.phantoms.population import PREVALENCE
from core.data.phantoms.scene import MASK_LEVEL
from core.errors import ConfigurationError, DataError


@pytest.fixture(scope="module")
def many() -> Phantom:
    """The shipped set, whose table is drawn in a moment."""
    return Phantom("phantom-14")


def only(dataset: Phantom, finding: str, count: int = 1) -> list[str]:
    """Studies with this finding and no other."""
    table = dataset.table[list(dataset.findings)]
    return list(table.index[(table[finding] == 1) & (table.sum(axis=1) == 1)][:count])


def test_the_same_seed_draws_the_same_images(many: Phantom) -> None:
    again, other = Phantom("phantom-14"), Phantom("phantom-14", seed=1)
    assert again.table.equals(many.table)
    one = many.ids("train")[3]
    assert np.array_equal(many.read(one), again.read(one))
    assert not set(other.table.index) & set(many.table.index)
    assert not np.array_equal(other.read(other.ids("train")[3]), many.read(one))


def test_those_pre_rendered_are_the_same_images() -> None:
    wanted = list(phantoms.default_run())
    named = {dataset.prerendered_name(study, side) for dataset, study, side in wanted}
    assert named == set(zipfile.ZipFile(prerendered.FILE).namelist())
    assert len(named) == 400 + 300 + 1000
    for dataset, study, side in wanted[:: 1 if os.environ.get("CXR_LONG") else 50]:
        now = grey.resize(dataset.render(study).image, side)
        assert dataset.is_quick(study, side)
        assert np.array_equal(dataset.read(study, side), now)


@pytest.mark.parametrize("content", [None, b"PK no archive", b"cut"])
def test_without_those_pre_rendered_an_image_is_drawn(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, study, side = next(phantoms.default_run())
    kept = dataset.read(study, side)
    file = tmp_path / "phantoms.zip"
    if content == b"cut":
        whole = prerendered.FILE.read_bytes()
        file.write_bytes(whole[:200] + bytes(1000) + whole[1200:])  # the first image's pixels
    elif content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(prerendered, "FILE", file)
    prerendered._opened.cache_clear()
    try:
        assert np.array_equal(dataset.read(study, side), kept)
    finally:
        prerendered._opened.cache_clear()


def test_the_three_sets_have_patients_of_their_own(many: Phantom) -> None:
    five, one = open_dataset("phantom-5"), open_dataset("phantom-1")
    assert five.findings == findings.CHEXPERT
    assert one.findings == findings.RSNA
    first = many.ids("train")[0]
    assert not np.array_equal(five.read(first), many.read(first))
    assert 0.2 < one.table["Pneumonia"].mean() < 0.3


def test_prevalence_is_as_stated_and_splits_share_no_patient(many: Phantom) -> None:
    for split, patients in many.table.groupby("split")["patient"]:
        others = many.table.loc[many.table["split"] != split, "patient"]
        assert not set(patients) & set(others)
    for finding, expected in PREVALENCE.items():
        assert many.table[finding].mean() == pytest.approx(expected, abs=0.015)
    assert 1.5 < len(many.table) / many.table["patient"].nunique() < 2.5


def test_findings_come_together_as_stated(many: Phantom) -> None:
    table = many.table
    effusion = table["Effusion"] == 1
    assert table.loc[effusion, "Atelectasis"].mean() > 1.8 * table["Atelectasis"].mean()
    assert table.loc[table["Edema"] == 1, "Cardiomegaly"].mean() > 2 * table["Cardiomegaly"].mean()
    old = table["age"] > 65
    assert table.loc[old, "Emphysema"].mean() > 1.4 * table.loc[~old, "Emphysema"].mean()


def test_a_lasting_finding_stays_where_it_is(many: Phantom) -> None:
    table = many.table[many.table["Mass"] == 1]
    patient = table["patient"].value_counts().index[0]
    first, second = table.index[table["patient"] == patient][:2]
    a, b = many.mask(first, "Mass"), many.mask(second, "Mass")
    assert a is not None
    assert b is not None
    middles = [np.argwhere(one).mean(axis=0) for one in (a, b)]
    assert np.abs(middles[0] - middles[1]).max() < 25  # the patient stands a little otherwise


@pytest.mark.parametrize("finding", findings.NIH)
def test_a_counterfactual_differs_where_the_finding_is(many: Phantom, finding: str) -> None:
    for one in only(many, finding, 2):
        with_it, without = many.read(one), many.counterfactual(one, finding)
        change = np.abs(with_it.astype(int) - without)
        assert change.max() > 15, one
        mask = many.mask(one, finding)
        assert mask is not None
        assert 20 < mask.sum() < 0.45 * mask.size, one
        reshaped = PATHOLOGY[finding].reshape is not None
        if not reshaped:
            assert change[mask].mean() > 4 * change[~mask].mean(), one
        # The corner beyond the patient is the same noise, with or without the finding.
        assert change[:12, :40].max() <= 12


@pytest.mark.slow
def test_masks_are_those_of_the_drawing_at_any_size(many: Phantom) -> None:
    one = max(many.ids("train"), key=lambda study: many.labels([study]).sum())
    drawn, masks = many.render(one).lesions, many.masks(one)
    held = [many.findings[i] for i in np.flatnonzero(many.labels([one])[0])]
    assert sorted(masks) == sorted(held)
    assert len(held) > 2
    for finding, mask in masks.items():
        assert np.array_equal(mask, drawn[finding].region > MASK_LEVEL)
        small = many.masks(one, many.size // 2)[finding]
        assert abs(small.mean() - mask.mean()) < 0.1 * mask.mean() + 0.002


@pytest.mark.slow
@pytest.mark.parametrize("finding", [name for name in findings.NIH if not PATHOLOGY[name].reshape])
def test_at_least_nine_of_ten_lesions_change_the_grey_levels_visibly(
    many: Phantom, finding: str
) -> None:
    changes = []
    for one in only(many, finding, 10):
        mask = many.mask(one, finding)
        assert mask is not None
        change = np.abs(many.read(one).astype(int) - many.counterfactual(one, finding))[mask]
        changes.append(change[change >= np.quantile(change, 0.75)].mean())
    assert np.quantile(changes, 0.1) > 20, changes


@pytest.mark.parametrize("severity", [0.0, 1.0])
def test_nodules_are_up_to_3_cm_wide_and_masses_wider(many: Phantom, severity: float) -> None:
    scene = many._scene(many.ids("train")[0])
    cm_per_u = 14.0  # half the width of an adult's thorax
    for seed in range(8):
        widths = {}
        for name in ("Nodule", "Mass"):
            lesion = PATHOLOGY[name].draw(scene.frame, np.random.default_rng(seed), severity)
            parts, _ = ndimage.label(lesion.region > MASK_LEVEL)
            u = scene.frame.u
            widths[name] = [cm_per_u * np.ptp(u[part]) for part in ndimage.find_objects(parts)]
        assert min(widths["Nodule"]) > 0.9
        assert np.median(widths["Nodule"]) < 3.1  # a pixel is 0.14 cm wide
        assert max(widths["Mass"]) > 3.0


@pytest.mark.parametrize("finding", ["Atelectasis"])
def test_volume_is_lost_on_the_side_of_the_lesion(many: Phantom, finding: str) -> None:
    for one in only(many, finding, 8):
        with_it, without = many._scene(one), many._scene(one, without=finding)
        raised = {
            side: without.frame.shape.diaphragm[side] - with_it.frame.shape.diaphragm[side]
            for side in SIDES
        }
        side = max(SIDES, key=lambda side: raised[side])
        lesion = with_it.lesions[finding].region > MASK_LEVEL
        assert raised[side] > 0.03
        assert (with_it.frame.side(side)[lesion] > 0).mean() > 0.9


@pytest.mark.parametrize("finding", findings.NIH)
def test_boxes_enclose_the_mask(many: Phantom, finding: str) -> None:
    one = only(many, finding)[0]
    mask, boxes = many.mask(one, finding), many.boxes(one)
    assert mask is not None
    assert boxes
    inside = np.zeros_like(mask)
    for box in boxes:
        assert box.finding == finding
        x, y = int(box.x), int(box.y)
        inside[y : y + int(box.height), x : x + int(box.width)] = True
    assert (mask & inside).sum() > 0.8 * mask.sum()


@pytest.mark.slow
def test_a_larger_spread_moves_the_patients_further_from_the_middle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def strays(drawn: Phantom) -> float:
        """Deviation of the column in which the image's left and right halves weigh alike."""
        middles = []
        for one in drawn.ids("test"):
            across = np.cumsum(drawn.read(one)[:24].sum(axis=0, dtype=float))  # neck and shoulders
            middles.append(np.searchsorted(across, across[-1] / 2) / drawn.size)
        return float(np.std(middles))

    small = {"seed": 3, "train": 1, "val": 1, "test": 80, "size": 96}
    monkeypatch.setitem(SPREAD, "phantom-1", 1.0)
    monkeypatch.setitem(SPREAD, "phantom-5", 2.2)
    usual = strays(Phantom("phantom-1", **small))
    assert strays(Phantom("phantom-5", **small)) > 1.5 * usual


def test_a_large_heart_is_wider(many: Phantom) -> None:
    for one in only(many, "Cardiomegaly", 5):
        wide = many.render(one).lesions["Cardiomegaly"].region > MASK_LEVEL
        assert wide.any(axis=0).mean() > 0.3


def test_images_look_like_radiographs_to_a_histogram(many: Phantom) -> None:
    for one in many.ids("test")[:12]:
        image = many.read(one)
        assert image.shape == (256, 256)
        assert image.dtype == np.uint8
        assert 70 < image.mean() < 190
        assert image.std() > 30
        lungs, middle = image[90:150, 70:100], image[90:150, 118:138]
        assert middle.mean() > lungs.mean(), one
        assert (image == 255).mean() < 0.05


def test_any_size_shows_the_same_patient(many: Phantom) -> None:
    small = Phantom("phantom-14", size=128)
    for one in many.ids("train")[:3]:
        assert small.read(one).shape == (128, 128)
        # Noise, collimator and marker are drawn anew; the patient is the same.
        parts = [image[24:104, 24:104] for image in (small.read(one), many.read(one, 128))]
        coarse = [part.reshape(16, 5, 16, 5).mean((1, 3)).ravel() for part in parts]
        assert np.corrcoef(coarse)[0, 1] > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phantom-14", "phantom-5", "phantom-1"])
def test_nothing_lies_outside_the_window_it_is_drawn_in(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Phantom(name, seed=5, train=1, val=1, test=60, size=96)
    images = [drawn.read(one) for one in drawn.ids("test")]
    whole = slice(0, drawn.size)
    monkeypatch.setattr(Frame, "bounds", lambda *_: (whole, whole))
    for one, image in zip(drawn.ids("test"), images, strict=True):
        assert np.array_equal(drawn.read(one), image)


def test_the_source_key_says_all_that_decides_the_pixels(many: Phantom) -> None:
    one = many.ids("train")[0]
    assert many.source_key(one) == Phantom("phantom-14").source_key(one)
    assert many.source_key(one) != Phantom("phantom-14", size=128).source_key(one)
    assert (
        len({many.source_key(one) for one in only(many, "Mass", 1) + only(many, "Edema", 1)}) == 2
    )


def test_it_travels_to_other_processes(many: Phantom) -> None:
    copy = pickle.loads(pickle.dumps(many))
    one = many.ids("val")[0]
    assert np.array_equal(copy.read(one), many.read(one))


def test_bad_requests_are_explained(many: Phantom) -> None:
    with pytest.raises(DataError, match="no study"):
        many.read("nobody")
    healthy = many.table.index[many.table[list(findings.NIH)].sum(axis=1) == 0][0]
    with pytest.raises(DataError, match="has no Mass"):
        many.counterfactual(str(healthy), "Mass")
    assert many.mask(str(healthy), "Mass") is None
    assert many.boxes(str(healthy)) == ()
    for wrong in ({"name": "phantom-3"}, {"seed": -1}, {"size": 16}, {"train": 0}):
        with pytest.raises(ConfigurationError):
            Phantom(**{"name": "phantom-14", **wrong})  # type: ignore[arg-type]


def test_every_finding_can_be_drawn() -> None:
    assert set(PATHOLOGY) == set(PREVALENCE) == set(findings.NIH)
    assert len(SIDES) == 2


@pytest.mark.slow
def test_what_lies_beside_the_patient_is_where_it_was_drawn(many: Phantom) -> None:
    table = many.table
    bedside = [str(one) for one in table.index[table["view"] == "AP"][:30]]
    seen: dict[str, int] = {}
    for one in bedside:
        image = many.read(one).astype(int)
        for name, mask in many.distractors(one).items():
            assert mask.shape == image.shape
            assert 0 < mask.mean() < 0.2, (one, name)
            seen[name] = seen.get(name, 0) + 1
            if name == "marker":
                assert image[mask].max() >= 190
            if name == "collimator":
                assert image[mask].max() <= 10 or np.median(image[mask]) <= 10
    assert set(seen) == {"tubes", "marker", "collimator"}
    assert many.marked(bedside[0], "Hernia") == (many.mask(bedside[0], "Hernia") is not None)
