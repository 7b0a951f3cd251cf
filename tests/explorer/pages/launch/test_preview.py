import re
from pathlib import Path
from typing import Any

import pytest

from core.config.run import DataSpec, RunSpec
from core.data.datasets import registered
from core.errors import ConfigurationError, CoreError, DataError
from core.models.tuning.registry import TUNING_METHODS
from core.runs.run import RunState
from core.runs.store import Store
from core.workspace import Workspace
from explorer.components import dataset_choice
from explorer.pages.launch import form, preview


def filled(**changed: Any) -> dict[str, Any]:
    """The form's values for the default run, some of them changed."""
    values, _ = form.values_of(RunSpec())
    return {**values, **{path.replace("__", "."): value for path, value in changed.items()}}


def test_the_cost_counts_images_and_parameters(store: Store, workspace: Workspace) -> None:
    html = preview.cost_panel(store, workspace.cache, filled(), None)
    assert "cxr-fault" not in html
    assert "Labelled images" in html
    assert re.search(r"<dt>Memory</dt><dd>about [\d.]+ GB</dd><dd class=.{,30}>of [\d.,]+ GB", html)
    assert "python -m core train" in html
    for finding in ("Effusion", "Hernia", "Pleural Thickening"):
        assert finding in html


def test_full_fine_tuning_trains_everything(store: Store, workspace: Workspace) -> None:
    html = preview.cost_panel(store, workspace.cache, filled(adapter__method="full"), None)
    assert "100%" in html


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"data__name": "nih"}, "f-data-root"),
        ({"adapter__rank": 100_000}, "f-adapter-rank"),
        ({"adapter__rank": 500}, "f-adapter-rank"),
        ({"model__backbone": "embeded-mae"}, "f-model-backbone"),
        ({"data__label_fraction": form.OTHER}, "f-percent"),
        (
            {
                "model__backbone": "timm:vit_large_patch16_224",
                "model__input_size": 1008,
                "adapter__method": "full",
                "train__batch_size": 4096,
                "train__accumulation": 1,
            },
            "f-train-batch-size",
        ),
    ],
)
def test_an_error_is_shown_under_its_field(
    store: Store, workspace: Workspace, changed: dict[str, Any], field: str
) -> None:
    html = preview.cost_panel(store, workspace.cache, filled(**changed), None)
    assert f'data-beside="{field}"' in html
    assert "Traceback" not in html


def test_launching_queues_one_run_for_each_seed(store: Store) -> None:
    queued = preview.submit(store, filled(train__seed=3), None, 2)
    assert [run.spec.train.seed for run in queued] == [3, 4]
    assert all(run.state is RunState.QUEUED for run in store.list())


@pytest.mark.parametrize("repeats", [None, 0, 1.5, 1000])
def test_a_wrong_number_of_seeds_queues_nothing(store: Store, repeats: float | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        preview.submit(store, filled(), None, repeats)
    assert caught.value.field == "repeats"
    assert not store.list()


def test_an_invalid_run_is_not_queued(store: Store) -> None:
    with pytest.raises(DataError):
        preview.submit(store, filled(data__name="nih", data__root="/nowhere"), None, 1)
    assert not store.list()


def test_only_the_data_set_s_own_options_count() -> None:
    typed = {"data__patient": r" (person\d+) ", "data__uncertainty": "zeros"}
    assert preview.spec_of(filled(**typed), None).data.options() == {}
    folder = preview.spec_of(filled(data__name="folder", **typed), None)
    assert folder.data.options() == {"patient": r"(person\d+)"}
    assert form.spec_of(*form.values_of(folder)) == folder
    assert form.decode(form.encode(folder)) == folder


def test_settings_that_the_method_ignores_stay_at_their_default() -> None:
    spec = preview.spec_of(filled(adapter__method="full", adapter__rank=64), None)
    assert spec.adapter.rank == RunSpec().adapter.rank
    assert preview.spec_of(filled(adapter__rank=64), None).adapter.rank == 64


@pytest.mark.parametrize("method", TUNING_METHODS)
def test_every_method_hides_settings_it_does_not_support(method: str) -> None:
    hidden = preview.unused(filled(adapter__method=method))
    assert hidden.isdisjoint(f"adapter.{name}" for name in TUNING_METHODS[method].options)


@pytest.mark.parametrize("method", ["logistic", "knn", "pixels"])
def test_a_method_without_epochs_hides_them(method: str) -> None:
    values = filled(adapter__method=method, train__epochs=0, train__lr="fast", train__seed=3)
    hidden = preview.unused(values)
    assert {"train.epochs", "train.lr", "train.batch_size", "train.augmentation"} <= hidden
    assert hidden.isdisjoint({"train.seed", "train.device", "data.label_fraction"})
    assert ("model.backbone" in hidden) == (method == "pixels")
    spec = preview.spec_of(values, None)  # a wrong value in a hidden field is no error
    assert (spec.train.seed, spec.resolved().train.epochs) == (3, 1)


def test_the_shown_error_has_no_dotted_name() -> None:
    with pytest.raises(CoreError) as caught:
        preview.spec_of(filled(train__epochs=0), None)
    html = preview.error_panel(caught.value)
    assert "train.epochs" not in html
    assert "at least 1" in html


def test_a_registered_name_is_offered_and_resolved(store: Store, own_folder: Path) -> None:
    data = DataSpec(name="folder", root=own_folder, labels="Plate")
    registered.register(store.workspace, "ward", data)
    assert dataset_choice.choices(store.workspace)[0] == ("ward", "ward")
    entry = dataset_choice.dataset_entry(store.workspace, "ward")
    assert not entry.needs_root
    assert str(own_folder) in entry.sentence
    # Values of another data set in the hidden fields have no effect.
    asked = filled(data__name="ward", data__root="/elsewhere", data__split="paper",
                   data__patient="(x)", data__label_fraction=1.0)  # fmt: skip
    html = preview.cost_panel(store, store.workspace.cache, asked, None)
    assert "cxr-fault" not in html
    assert "Plate" in html
    (run,) = preview.submit(store, asked, None, 1)
    assert run.spec.data.root == own_folder
    assert "ward 100%" in run.name
    assert preview.with_registered_name(store.workspace, run.spec).data.name == "ward"
    registered.forget(store.workspace, "ward")
    assert preview.with_registered_name(store.workspace, run.spec).data == run.spec.data.model_copy(
        update={"called": None}
    )
    html = preview.cost_panel(store, store.workspace.cache, asked, None)
    assert 'data-beside="f-data-name"' in html
    assert "no longer registered" in dataset_choice.dataset_entry(store.workspace, "ward").sentence
