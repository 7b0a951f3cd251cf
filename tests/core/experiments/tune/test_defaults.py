"""Tuned defaults from finished tunings."""

from pathlib import Path

import pytest

from core.config import tuned
from core.config.run import RunSpec
from core.experiments.tune import defaults
from core.experiments.tune import result as results
from core.experiments.tune.study import existing_storage, open_storage
from core.experiments.tune.tune import Tuning
from core.runs.store import Store
from core.workspace import Workspace
from tests.support.tuned_run import BASE, plan, served


def test_a_finished_tuning_becomes_the_default(
    store: Store, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.experiments.tune.tune.POLL_SECONDS", 0.02)
    made = plan(trials=3, final_seeds=(1,))
    tuning = Tuning(made, store, workspace)
    with served(store, workspace):
        tuning.run()
    result = results.result_of(tuning)
    file = tmp_path / "tuned" / "defaults.json"
    assert defaults.write_defaults(result, made, file) == 2
    first = file.read_text()
    assert defaults.write_defaults(result, made, file) == 2
    assert file.read_text() == first
    known = tuned.read(file)
    assert [entry.evidence["trials"] for entry in known] == [3, 3]
    for entry, each in zip(known, sorted(result.methods, key=lambda m: m.method), strict=True):
        assert entry.evidence["tuning_seeds"] == [0]
        assert set(entry.evidence["final_runs"]) == {"1"}
        assert len(entry.evidence["trial_runs"]) == 3
        assert entry.evidence["validation_auroc"]["chosen"] == each.chosen
    monkeypatch.setattr(tuned, "FILE", file)
    filled = tuned.with_tuned_defaults(BASE)
    (final,) = result.methods[0].finals
    assert filled.train.lr == final.spec.resolved().train.lr
    assert tuned.tuned_for(final.spec)
    assert not tuned.tuned_for(BASE)
    monkeypatch.undo()
    assert not tuned.tuned_for(final.spec)
    other = RunSpec.of(**{"data.label_fraction": 1.0, "adapter.method": "full"})
    dora = RunSpec.of(**{"adapter.method": "dora"})
    assert defaults.tunings_of(workspace, [dora, other]) == {}
    assert defaults.tunings_of(workspace, [final.spec, dora, other]) == {tuning.name: ("lora",)}
    here = defaults.tuned_here(workspace)
    assert tuned.tuned_for(final.spec, here)
    assert tuned.tuned_for(RunSpec.of(**{"train.lr": final.spec.train.lr}), here)
    assert not tuned.tuned_for(BASE, here)
    assert not file.with_name(".defaults.json").exists()


def test_nothing_is_written_where_nothing_was_tuned(store: Store, workspace: Workspace) -> None:
    assert defaults.tunings_of(workspace, [BASE]) == {}
    assert existing_storage(workspace) is None
    open_storage(workspace)
    assert existing_storage(workspace) is not None
    assert defaults.tunings_of(workspace, [BASE]) == {}
