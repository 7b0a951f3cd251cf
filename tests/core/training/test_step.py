"""A step in parts, with activations computed again, or compiled: the same step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import ConfigurationError
from core.resources import memory
from core.training import prepare
from core.training.loop import fine_tune
from core.training.setup import setup
from tests.support.reporters import Notes

PLAIN = {
    "train__drop_path": 0.0, "adapter__dropout": 0.0, "train__lr": 0.01,
    "train__precision": "fp32",
}  # fmt: skip
Losses = Callable[..., list[float]]


@pytest.fixture
def losses(tmp_path: Path, tiny) -> Losses:
    """The training losses of a tiny run, step by step."""

    def of(name: str, **changes: Any) -> list[float]:
        notes = Notes()
        fine_tune(tiny(**PLAIN | changes), tmp_path / name, tmp_path / "cache", notes)
        return [value for one, value, _, _ in notes.metrics if one == "train/loss"]

    return of


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_batch_in_parts_takes_the_step_of_the_whole(
    losses: Losses, method: str, optimizer: str
) -> None:
    given = {"adapter__method": method, "train__optimizer": optimizer}
    whole = losses("whole", **given)
    assert len(whole) > 2
    assert losses("parts", **given, train__accumulation=3) == pytest.approx(whole, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora", "vpt", "last-k"])
def test_activations_computed_again_change_nothing(losses: Losses, method: str) -> None:
    given = {"adapter__method": method, "adapter__dropout": 0.1, "train__drop_path": 0.2}
    kept = losses("kept", **given)
    assert losses("again", **given, train__activation_checkpointing=True) == kept


def test_activations_computed_again_are_not_kept(tmp_path: Path, tiny) -> None:
    def kept(again: bool) -> int:
        spec = tiny(**PLAIN, adapter__method="full", train__activation_checkpointing=again)
        session = setup(spec.resolved(), tmp_path / str(again), tmp_path / "cache", Notes())
        prepare.prepare(session, "train")
        inputs = session.inputs.evaluation(session.ids["train"][:8])
        sizes = []

        def note(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda one: one):
            session.inputs.forward(session.parallel.train(), inputs)
        return sum(sizes)

    assert kept(again=True) < 0.5 * kept(again=False)


def test_a_batch_that_does_not_fit_goes_through_in_parts(
    losses: Losses, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = losses("whole")
    monkeypatch.setattr(memory, "MAX_BYTES_PER_PIXEL", 1e12)
    monkeypatch.setattr(memory, "fewest_micro_batches", lambda spec, findings, limit: 4)
    assert losses("parts") == pytest.approx(whole, abs=1e-5)
    assert losses("parts") != whole  # summed in another order


def test_a_batch_cannot_have_more_micro_batches_than_images(tiny) -> None:
    with pytest.raises(ConfigurationError, match="into 17 micro-batches"):
        tiny(train__accumulation=17)


def test_later_settings_leave_the_fingerprint_of_earlier_runs(tiny) -> None:
    assert "accumulation" not in tiny().to_json()
    assert tiny(train__accumulation=2).fingerprint() != tiny().fingerprint()
