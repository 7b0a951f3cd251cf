"""The estimated cost of a run, compared with the run itself."""

import csv
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.data import splits
from core.reporter import NullReporter
from core.resources import estimate, throughput, validation_schedule
from core.training.setup import setup
from core.training.warm_cache import prepare
from tests.support.measured import note_speed


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache of a workspace whose machine was measured before."""
    folder = tmp_path / "cache"
    note_speed(folder)
    return folder


@pytest.mark.parametrize(
    "method", ["full", "linear", "lora", "dora", "attentive", "logistic", "knn", "pixels"]
)
def test_it_counts_what_the_run_will_use(tiny, cache: Path, method: str) -> None:
    spec = tiny(adapter__method=method, adapter__rank=2, data__label_fraction=0.5)
    cost = estimate.estimate(spec, cache)
    session = setup(spec.resolved(), cache, cache, NullReporter())
    assert (cost.trainable, cost.total) == (session.weights.trainable, session.weights.total)
    assert cost.share == session.weights.trainable / session.weights.total
    ids = session.ids["train"]
    assert cost.images == len(ids) == 20
    assert cost.patients == len({session.dataset.study(one).patient for one in ids})
    assert cost.positives == splits.positives(session.dataset, ids)
    assert (cost.val_images, cost.test_images) == (12, 16)
    assert cost.seconds > 0


def test_it_is_the_speed_in_the_run_s_precision_that_counts(tiny, tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text('{"cpu fp32": 1e10, "cpu bf16": 4e10}')
    whole, half = (
        estimate.estimate(tiny(train__epochs=2000, train__precision=one), tmp_path).seconds
        for one in ("fp32", "bf16")
    )
    assert 2 < whole / half < 4


def test_more_work_takes_longer(tiny, cache: Path) -> None:
    def seconds(**changes: object) -> float:
        return estimate.estimate(tiny(**changes), cache).seconds

    times = [seconds(adapter__method=one) for one in ("linear", "lora", "full")]
    assert times == sorted(times)
    assert seconds(train__epochs=20) > seconds(train__epochs=2)
    assert seconds(adapter__method="linear", train__epochs=20) == times[0]
    assert times[0] < seconds(adapter__method="attentive") < times[1]
    for method in ("logistic", "knn", "pixels"):
        fitted = seconds(adapter__method=method)
        assert seconds(adapter__method=method, train__epochs=500) == fitted < times[1]


def test_a_method_without_backbone_says_so(tiny, cache: Path) -> None:
    notes = estimate.estimate(tiny(adapter__method="pixels"), cache).notes
    assert "Uses grey values only: no backbone and no weights." in notes
    assert not any("random weights" in note for note in notes)


def test_validation_by_budget_costs_what_the_run_then_predicts(
    tiny, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_schedule, "LEAST_PART", 2)
    settings = {"train__epochs": 6, "train__validation": "budget"}
    whole = estimate.estimate(tiny(train__epochs=6), cache).seconds
    spared = estimate.estimate(tiny(**settings, train__validation_share=0.05), cache)
    rounds = validation_schedule.validation_rounds(
        images=spared.images, epochs=6, validation=12, share=0.05,
        method="lora",
    )  # fmt: skip
    assert rounds is not None
    card, pace = "timm:test_vit", 1e10
    once = throughput.forward_operations(card, 64) / pace + estimate.MILLISECONDS_PER_IMAGE / 1000
    assert whole - spared.seconds == pytest.approx((7 * 12 - rounds.studies(6, 12)) * once)
    assert estimate.estimate(tiny(**settings, train__validation_share=0.9), cache).seconds == whole


def test_a_frozen_part_that_is_kept_costs_once_a_copy(tiny, cache: Path) -> None:
    def seconds(**changes: Any) -> float:
        cost = estimate.estimate(tiny(train__epochs=10, **changes), cache)
        return cost.seconds - cost.starting - cost.preparing

    kept = {"adapter__method": "last-k", "train__augmentation": "none", "train__drop_path": 0.0}
    crops = {"train__augmentation": "crop-flip"}
    assert seconds(**kept) < 0.6 * seconds(**kept | {"train__drop_path": 0.1})
    assert seconds(**kept | crops) == seconds(**kept | crops | {"train__drop_path": 0.1})
    probe = {"adapter__method": "linear"}
    forward = throughput.forward_operations("timm:test_vit", 64) / 1e10
    once = forward + estimate.MILLISECONDS_PER_IMAGE / 1000
    four = seconds(**probe, train__augmented_copies=4)
    assert four - seconds(**probe) == pytest.approx(3 * 40 * once)
    fifty = seconds(**kept | {"train__augmentation": None}, train__augmented_copies=50)
    assert fifty - seconds(**kept) == pytest.approx(9 * 40 * (once - forward / 3))


def test_an_earlier_run_of_the_same_kind_is_believed(tiny, cache: Path) -> None:
    spec = tiny()
    earlier = [(tiny(train__epochs=3), 1.0), (tiny(train__seed=5), 77.0), (spec, 99.0)]
    cost = estimate.estimate(spec, cache, earlier)
    assert cost.seconds == 77
    assert "last run like this" in cost.basis
    cost = estimate.estimate(spec, cache, earlier[:1])
    assert "measured speed" in cost.basis


def test_before_the_machine_was_measured_a_usual_one_is_told_of(tiny, tmp_path: Path) -> None:
    cold = estimate.estimate(tiny(train__epochs=2000), tmp_path)
    assert "typical CPU, until a run has measured this one" in cold.basis
    assert not (tmp_path / "speed.json").exists()
    note_speed(tmp_path, cpu=throughput.typical("fp32"))
    warm = estimate.estimate(tiny(train__epochs=2000, train__precision="fp32"), tmp_path)
    assert "this machine's measured speed" in warm.basis
    assert warm.seconds == pytest.approx(
        estimate.estimate(
            tiny(train__epochs=2000, train__precision="fp32"), tmp_path / "new"
        ).seconds
    )


def relabelled(radiographs: Path, root: Path, positives: int) -> Path:
    """The same radiographs, so many of the training studies with a finding of each kind."""
    shutil.copytree(radiographs, root, dirs_exist_ok=True)
    with (radiographs / "labels.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    train = [row for row in rows if row[2] == "train"]
    for i, row in enumerate(train):
        row[3:] = ["0", str(int(i < positives))]
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return root


def test_notes_say_what_should_be_known(
    tiny, radiographs: Path, tmp_path: Path, cache: Path
) -> None:
    root = relabelled(radiographs, tmp_path / "few", 3)
    notes = " ".join(estimate.estimate(tiny(data__root=root), cache).notes)
    assert "No positive image for Pneumonia" in notes
    assert "Fewer than five positive images for Plate" in notes
    assert "random weights" in notes
    assert estimate.estimate(tiny(adapter__method="full"), cache).notes == ()
    leaky = tiny(model__backbone="cxr-mae", model__input_size=None, adapter__method="full")
    assert "It has seen" in " ".join(estimate.estimate(leaky, cache).notes)


def test_a_folder_that_changed_is_read_again(
    tiny, radiographs: Path, tmp_path: Path, cache: Path
) -> None:
    spec = tiny(data__root=relabelled(radiographs, tmp_path / "own", 3))
    assert estimate.estimate(spec, cache).positives["Plate"] == 3
    relabelled(radiographs, tmp_path / "own", 7)
    assert estimate.estimate(spec, cache).positives["Plate"] == 7


def test_pictures_that_are_not_prepared_take_their_time(tiny, cache: Path) -> None:
    spec = tiny()
    before = estimate.estimate(spec, cache)
    prepare(spec, cache)
    after = estimate.estimate(spec, cache)
    per_image = estimate.MILLISECONDS_TO_DECODE / 1000 / (os.cpu_count() or 1)
    assert before.seconds - after.seconds == pytest.approx(68 * per_image)
