"""Runs trained together: each is what it would be alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.classifier.trained import load_trained
from core.classifier.weights import read_state
from core.config.run import RunSpec
from core.errors import ConfigurationError, NotFiniteError, Stopped
from core.runs.joint_worker import Member
from core.training import checkpoint
from core.training.joint import run as joint_run
from core.training.loop import fine_tune
from core.training.session import Session
from core.training.setup import setup
from core.workspace import BEST, RESULT, SPEC, SUBSET
from tests.support.reporters import Notes

Lora = Callable[..., RunSpec]


def together(
    place: Path, specs: list[RunSpec], notes: list[Notes]
) -> tuple[dict[int, dict[str, Any]], dict[int, BaseException]]:
    """Results and errors of runs that were trained together, by number."""
    pairs = zip(specs, notes, strict=True)
    members = [Member(spec, place / str(i), note) for i, (spec, note) in enumerate(pairs)]
    results: dict[int, dict[str, Any]] = {}
    errors: dict[int, BaseException] = {}
    for number, end in joint_run.run_together(members, place / "cache"):
        try:
            results[number] = end()
        except (Exception, KeyboardInterrupt) as error:
            errors[number] = error
    return results, errors


def same_values(one: Notes, other: Notes) -> bool:
    """Whether two runs' curves are the same but for rounding."""
    ours, its = (np.array([row[1:] for row in notes.curves()]) for notes in (one, other))
    return np.allclose(ours, its, rtol=0, atol=1e-4)


def near(one: Path, other: Path) -> bool:
    """Whether two runs' best weights are the same but for rounding."""
    ours, its = (read_state(place / BEST)[0] for place in (one, other))
    return ours.keys() == its.keys() and all(
        torch.allclose(ours[name], its[name], rtol=0, atol=1e-4) for name in ours
    )


@pytest.mark.slow
def test_each_result_is_that_of_the_run_alone(lora: Lora, tmp_path: Path) -> None:
    specs = [
        lora(adapter__rank=2),
        lora(adapter__rank=8, adapter__alpha=16.0, train__seed=1, train__lr=0.001),
        lora(
            train__seed=2,
            data__label_fraction=0.5,
            train__drop_path=0,
            train__epochs=3,
            train__loss="asymmetric",
            train__class_weight="balanced",
        ),
        lora(adapter__rank=1, adapter__dropout=0.0, train__seed=3, train__optimizer="sgd"),
    ]
    assert specs[0].resolved().adapter.dropout == 0.1  # each draws what it would draw alone
    notes = [Notes() for _ in specs]
    results, errors = together(tmp_path, specs, notes)
    assert not errors
    for i, spec in enumerate(specs):
        own, alone, place = Notes(), tmp_path / f"alone-{i}", tmp_path / str(i)
        expected = fine_tune(spec, alone, tmp_path / "cache", own)
        assert [row[0] for row in notes[i].curves()] == [row[0] for row in own.curves()]
        assert same_values(notes[i], own)
        assert near(place, alone)
        for name in (SPEC, SUBSET):
            assert (place / name).read_bytes() == (alone / name).read_bytes()
        stored = json.loads((place / RESULT).read_text())
        assert stored == results[i]
        assert stored.keys() == expected.keys()
        assert stored["steps"] == expected["steps"]
        for split in ("val", "test"):
            files = [np.load(one / "predictions" / f"{split}.npz") for one in (place, alone)]
            with files[0] as one, files[1] as other:
                assert list(one["ids"]) == list(other["ids"])
                np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-4)
        trained = load_trained(place)
        assert trained.spec.adapter.rank == spec.adapter.rank


def test_mixed_precision_learns_the_same_way(lora: Lora, tmp_path: Path) -> None:
    specs = [lora(train__precision="bf16", adapter__rank=rank) for rank in (2, 4)]
    _, errors = together(tmp_path, specs, [Notes(), Notes()])
    assert not errors
    fine_tune(specs[1], tmp_path / "alone", tmp_path / "cache", Notes())
    ours, its = (read_state(tmp_path / name / BEST)[0] for name in ("1", "alone"))
    names = [name for name in ours if ".lora_B." in name]
    one, other = (torch.cat([state[name].flatten() for name in names]) for state in (ours, its))
    assert float(torch.cosine_similarity(one, other, dim=0)) > 0.9


@pytest.mark.slow
def test_one_that_is_stopped_goes_on_alone_and_the_others_go_on(lora: Lora, tmp_path: Path) -> None:
    specs = [lora(adapter__rank=2), lora(adapter__rank=4), lora(adapter__rank=8, train__seed=1)]
    alone = [Notes() for _ in specs]
    for i in (1, 2):
        fine_tune(specs[i], tmp_path / f"alone-{i}", tmp_path / "cache", alone[i])
    notes = [Notes(), Notes(stop=2), Notes()]
    results, errors = together(tmp_path, specs, notes)
    assert results.keys() == {0, 2}
    assert isinstance(errors[1], Stopped)
    assert (tmp_path / "1" / checkpoint.CHECKPOINT).exists()
    notes[1].stop = None
    fine_tune(specs[1], tmp_path / "1", tmp_path / "cache", notes[1], resume=True)
    for i in (1, 2):
        assert near(tmp_path / str(i), tmp_path / f"alone-{i}")
        assert same_values(notes[i], alone[i])


def test_one_that_is_not_finite_fails_alone(
    lora: Lora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(spec: RunSpec, *rest: Any) -> Session:
        session = setup(spec, *rest)
        for name, parameter in session.model.named_parameters():
            if spec.train.seed == 9 and ".lora_A." in name:
                torch.nn.init.constant_(parameter, torch.nan)
        return session

    own = fine_tune(lora(), tmp_path / "alone", tmp_path / "cache", Notes())
    monkeypatch.setattr(joint_run, "setup", spoilt)
    results, errors = together(tmp_path, [lora(train__seed=9), lora()], [Notes(), Notes()])
    assert isinstance(errors[0], NotFiniteError)
    assert results[1]["scores"]["test"]["auroc"] == pytest.approx(own["scores"]["test"]["auroc"])
    assert near(tmp_path / "1", tmp_path / "alone")


def test_one_may_be_stopped_while_pictures_are_decoded(lora: Lora, tmp_path: Path) -> None:
    results, errors = together(tmp_path, [lora(train__epochs=1)] * 2, [Notes(stop=1), Notes()])
    assert isinstance(errors[0], Stopped)
    assert results.keys() == {1}


def test_frozen_weights_that_differ_are_refused(lora: Lora, tmp_path: Path) -> None:
    specs = [lora(model__pretrained=False, model__weights=None, train__seed=i) for i in (0, 1)]
    with pytest.raises(ConfigurationError, match="frozen weights differ") as caught:
        together(tmp_path, specs, [Notes(), Notes()])
    assert "one seed" in caught.value.remedy
