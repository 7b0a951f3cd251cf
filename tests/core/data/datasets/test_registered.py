"""Names for data sets: kept in the workspace, resolved when a run is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config.run import DataSpec, RunSpec
from core.data.datasets import registered
from core.data.datasets.registered import RegisteredDataset
from core.errors import ConfigurationError, DataError
from core.workspace import Workspace


def test_a_name_is_kept_listed_and_forgotten(workspace: Workspace, radiographs: Path) -> None:
    assert registered.names(workspace) == []
    data = DataSpec(name="folder", root=radiographs, labels="Plate", label_fraction=0.5)
    first = registered.register(workspace, "ward-3", data)
    assert first.data == data.source()
    assert registered.register(workspace, "ward-3", data) == first
    registered.register(workspace, "A", DataSpec(name="folder", root=radiographs))
    assert [one.name for one in registered.names(Workspace(workspace.root))] == ["A", "ward-3"]
    assert first.as_json() == {
        "name": "ward-3", "data": "folder", "root": str(radiographs), "labels": "Plate",
    }  # fmt: skip
    assert registered.forget(workspace, "ward-3") == first
    assert [one.name for one in registered.names(workspace)] == ["A"]
    with pytest.raises(ConfigurationError, match="Unknown name"):
        registered.forget(workspace, "ward-3")


@pytest.mark.parametrize(
    "name", ["", "nih", "NIH", "../up", "a/b", "a\\b", ".hidden", "a" * 41, "a b", "a\n", "ä"]
)
def test_names_that_cannot_be_are_refused(
    name: str, workspace: Workspace, radiographs: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        registered.register(workspace, name, DataSpec(name="folder", root=radiographs))
    assert caught.value.field == "named.name"
    assert not workspace.names.exists()


def test_what_does_not_open_gets_no_name(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        registered.register(workspace, "mine", DataSpec(name="folder", root=tmp_path / "no"))
    assert registered.names(workspace) == []


def test_a_name_means_one_thing(workspace: Workspace, radiographs: Path) -> None:
    registered.register(workspace, "mine", DataSpec(name="folder", root=radiographs))
    other = DataSpec(name="folder", root=radiographs, labels="Plate")
    for name in ("mine", "Mine"):
        with pytest.raises(ConfigurationError, match="“mine” is already used for folder"):
            registered.register(workspace, name, other)


def test_runs_hold_what_the_name_stood_for(workspace: Workspace, radiographs: Path) -> None:
    data = DataSpec(name="folder", root=radiographs, labels="Plate")
    registered.register(workspace, "mine", data)
    asked = RunSpec.of(**{"data.name": "mine", "data.label_fraction": 0.5, "data.subset_seed": 4})
    made = registered.resolved_run(workspace, asked)
    assert (made.data.name, made.data.root, made.data.labels) == ("folder", radiographs, "Plate")
    assert (made.data.label_fraction, made.data.subset_seed) == (0.5, 4)
    assert "mine 50%" in made.title()
    assert registered.name_of(workspace, made.data) == "mine"
    by_hand = RunSpec(data=data.model_copy(update={"label_fraction": 0.5, "subset_seed": 4}))
    assert made.fingerprint() == by_hand.fingerprint()
    assert RunSpec.from_json(made.to_json()) == made

    control = RunSpec.of(**{"data.name": "mine", "data.fold": "2/5", "data.shuffle_labels": True})
    made = registered.resolved_run(workspace, control)
    assert (made.data.fold, made.data.shuffle_labels) == ("2/5", True)
    assert registered.name_of(workspace, made.data) == "mine"

    over = RunSpec.of(**{"data.name": "mine", "data.labels": "Pneumonia"})
    assert registered.resolved_run(workspace, over).data.labels == "Pneumonia"
    assert registered.name_of(workspace, registered.resolved_run(workspace, over).data) is None
    registered.forget(workspace, "mine")
    assert registered.name_of(workspace, made.data) is None
    with pytest.raises(ConfigurationError, match="Unknown data set “mine”"):
        registered.resolved_run(workspace, asked)
    assert registered.resolved_run(workspace, RunSpec()) == RunSpec()


def test_foreign_files_hold_no_names(workspace: Workspace, radiographs: Path) -> None:
    registered.register(workspace, "mine", DataSpec(name="folder", root=radiographs))
    for name, text in (("x.json", "{"), ("y.json", '{"name": 3}'), ("a b.json", "{}"), ("z", "")):
        (workspace.names / name).write_text(text)
    assert [one.name for one in registered.names(workspace)] == ["mine"]
    assert isinstance(registered.names(workspace)[0], RegisteredDataset)
