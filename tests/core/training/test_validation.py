"""Validation by budget: a part in training, the whole split at the end, resumed exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.classifier.trained import load_trained
from core.classifier.weights import read_state
from core.errors import Stopped
from core.reporter import NullReporter
from core.resources import validation_schedule
from core.training import loop, validation
from core.training.session import Session
from core.training.setup import setup
from core.workspace import BEST
from tests.support.reporters import Fatal, Killed, Notes

Run = Callable[..., tuple[Path, dict[str, Any]]]
EPOCHS = 6
BUDGET = {"train__validation": "budget", "train__validation_share": 0.055}


@pytest.fixture
def run(tmp_path: Path, tiny, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Train a tiny run whose split of 12 studies is large for its budget."""
    monkeypatch.setattr(validation_schedule, "LEAST_PART", 2)

    def run_tiny(
        name: str, report: NullReporter, resume: bool = False, **changes: Any
    ) -> tuple[Path, dict[str, Any]]:
        spec = tiny(**{"train__epochs": EPOCHS, "train__lr": 0.01} | changes)
        folder, cache = tmp_path / name, tmp_path / "cache"
        return folder, loop.fine_tune(spec, folder, cache, report, resume=resume)

    return run_tiny


def curve(notes: Notes, name: str) -> dict[float, float]:
    return {epoch: value for one, value, epoch, _ in notes.metrics if one == name}


@pytest.mark.slow
def test_the_part_the_wider_parts_and_the_whole_split_choose_in_turn(run: Run) -> None:
    paper, budget = Notes(), Notes()
    run("paper", paper)
    folder, result = run("budget", budget, **BUDGET)
    assert curve(budget, "train/loss") == curve(paper, "train/loss")
    message = "the best 4 on 4, of those the best 3 on 8, of those the best 2 on the whole split."
    assert message in "".join(budget.lines)

    part, whole = curve(budget, "val-part/auroc"), curve(budget, "val/auroc")
    assert list(part) == [1, 2, 3, 4, 5, 6]
    leading = sorted(part, key=lambda epoch: (-part[epoch], epoch))[:4]
    assert list(whole) == sorted(whole)
    assert len(whole) == 2
    assert set(whole) <= set(leading)
    assert set(whole) - {6}, "weights of an earlier epoch have been scored"
    expected = curve(paper, "val/auroc")
    assert whole == pytest.approx({epoch: expected[epoch] for epoch in whole})
    steps = {epoch: step for name, _, epoch, step in budget.metrics if name == "val/auroc"}
    assert steps == {epoch: 3 * epoch for epoch in whole}

    assert result["best_auroc"] == max(whole.values()) == result["scores"]["val"]["auroc"]
    assert whole[result["best_epoch"]] == result["best_auroc"]
    assert result["last_auroc"] == list(whole.values())[-1]
    assert read_state(folder / BEST)[1]["epoch"] == str(result["best_epoch"])
    assert not any(name.startswith("logits") for name in read_state(folder / BEST)[0])
    assert result["scores"]["val"]["studies"] == 12
    assert not (folder / validation.CANDIDATES).exists()


def test_no_more_weights_are_kept_than_there_is_room_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "MAX_CANDIDATE_BYTES", 1)
    clear, kept = validation.clear, []

    def counted(session: Session) -> None:
        kept.extend((session.folder / validation.CANDIDATES).iterdir())
        clear(session)

    monkeypatch.setattr(validation, "clear", counted)
    notes = Notes()
    run("one", notes, **BUDGET)
    part = curve(notes, "val-part/auroc")
    assert list(curve(notes, "val/auroc")) == [max(part, key=lambda epoch: (part[epoch], -epoch))]
    assert len(kept) <= 2


def test_a_split_that_fits_the_budget_is_scored_the_paper_s_way(run: Run) -> None:
    paper, budget = Notes(), Notes()
    _, expected = run("paper", paper)
    _, result = run("budget", budget, **BUDGET | {"train__validation_share": 0.9})
    assert budget.curves() == paper.curves()
    assert result["weights_sha256"] == expected["weights_sha256"]


def test_a_linear_probe_on_features_is_scored_the_paper_s_way(run: Run) -> None:
    notes = Notes()
    run("linear", notes, adapter__method="linear", **BUDGET)
    assert len(curve(notes, "val/auroc")) == EPOCHS
    assert not curve(notes, "val-part/auroc")


def test_a_very_short_run_scores_its_part_now_and_then(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_schedule, "LEAST_PART", 8)
    monkeypatch.setattr(validation_schedule, "LEAST_PARTS", 3)
    notes = Notes()
    run("short", notes, **BUDGET | {"train__validation_share": 0.02, "train__epochs": 7})
    assert list(curve(notes, "val-part/auroc")) == [3, 6, 7]
    assert len(curve(notes, "val/auroc")) == 1


@pytest.mark.slow
def test_a_stopped_run_goes_on_exactly(run: Run) -> None:
    stop = 4
    whole, parts = Notes(), Notes(stop)
    _, expected = run("whole", whole, **BUDGET)
    attempts = 0
    while True:
        parts.asked = 0
        try:
            folder, result = run("parts", parts, resume=True, **BUDGET)
            break
        except Stopped:
            attempts += 1
            parts.stop = stop + attempts // 3  # stops in a prediction begin it again
    assert attempts > 3
    assert parts.curves() == whole.curves()
    for name in ("weights_sha256", "scores", "best_epoch", "last_auroc"):
        assert result[name] == expected[name]
    assert not (folder / validation.CANDIDATES).exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_a_killed_run_goes_on_exactly(
    run: Run, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    run("pictures", NullReporter(), train__epochs=1)
    whole = Notes()
    _, expected = run("whole", whole, adapter__method=method, **BUDGET)
    # In training, and while the last epoch's part and then the candidate are predicted.
    for asked in (whole.asked // 2, whole.asked - 2, whole.asked - 1):
        fatal, notes, name = Fatal(stop=asked), Notes(), f"killed-{asked}"
        with pytest.raises(Killed):
            run(name, fatal, adapter__method=method, **BUDGET)
        notes.metrics = fatal.metrics
        _, result = run(name, notes, resume=True, adapter__method=method, **BUDGET)
        assert notes.curves() == whole.curves()
        assert result["weights_sha256"] == expected["weights_sha256"]


def test_a_run_that_is_stopped_leaves_the_best_weights_so_far(run: Run, tmp_path: Path) -> None:
    run("pictures", NullReporter(), train__epochs=1)
    notes = Notes(stop=10)
    with pytest.raises(Stopped):
        run("stopped", notes, **BUDGET)
    part = curve(notes, "val-part/auroc")
    assert 0 < len(part) < 3
    assert not curve(notes, "val/auroc")
    folder = tmp_path / "stopped"
    assert int(read_state(folder / BEST)[1]["epoch"]) == max(part, key=lambda epoch: part[epoch])
    assert load_trained(folder).findings == ("Pneumonia", "Plate")


def test_the_part_is_the_same_for_a_seed(run: Run, tiny, tmp_path: Path) -> None:
    def part(seed: int) -> list[str]:
        spec = tiny(train__epochs=EPOCHS, train__seed=seed, **BUDGET).resolved()
        session = setup(spec, tmp_path, tmp_path / "cache", NullReporter())
        budget = validation.budget(session)
        assert budget is not None
        assert 0 < len(budget.part) <= 3
        return budget.part

    assert part(0) == part(0)
    assert len({tuple(part(seed)) for seed in range(4)}) > 1


def test_scores_on_other_studies_drop_out_of_the_race(run: Run, tiny, tmp_path: Path) -> None:
    spec = tiny(train__epochs=EPOCHS, **BUDGET).resolved()
    session = setup(spec, tmp_path, tmp_path / "cache", NullReporter())
    first = validation.budget(session)
    assert first is not None
    session.position.candidates = {1: 0.9}
    validation.budget(session)
    assert session.position.candidates == {1: 0.9}
    session.ids["val"] = [one for one in session.ids["val"] if one not in first.part]
    assert validation.budget(session) is not None
    assert session.position.candidates == {}
