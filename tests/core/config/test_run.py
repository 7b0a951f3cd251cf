"""Specifications: JSON, fingerprint, defaults and errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.config.defaults import EMBEDDED_RATES
from core.config.fields import fields
from core.config.run import OPTIONS, DataSpec, ResolvedSpec, RunSpec
from core.errors import ConfigurationError, unknown_name
from tests.support.paths import GOLDEN

STORED = json.loads((GOLDEN / "runs" / "specs.json").read_text())
"""Specifications with JSON and fingerprint, as written before ``ResolvedSpec`` existed."""


def test_a_specification_survives_its_json() -> None:
    spec = RunSpec.of(**{"data.name": "nih", "data.root": Path("/data/nih"), "adapter.rank": 8})
    assert RunSpec.from_json(spec.to_json()) == spec


def test_the_fingerprint_follows_what_is_computed() -> None:
    spec = RunSpec()
    assert spec.fingerprint() == spec.resolved().fingerprint()
    other = RunSpec.of(**{"train.seed": 1})
    assert other.fingerprint() != spec.fingerprint()


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
def test_json_and_fingerprint_are_those_of_stored_runs(
    stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fingerprints were written with the first edition of the phantoms, which adds nothing.
    monkeypatch.setattr(DataSpec, "edition", lambda _: None)
    spec = RunSpec.of(**stored["settings"])
    # The text is compared too: the fingerprint depends on the order of the keys.
    assert spec.to_json() == stored["json"]
    assert spec.resolved().to_json() == stored["resolved"]
    assert spec.fingerprint() == spec.resolved().fingerprint() == stored["fingerprint"]
    assert RunSpec.from_json(spec.resolved().to_json()).resolved() == spec.resolved()


def test_only_phantoms_have_an_edition_which_is_part_of_the_fingerprint() -> None:
    for stored in STORED.values():
        spec = RunSpec.of(**stored["settings"])
        phantoms = spec.data.name.startswith("phantom-")
        assert (spec.data.edition() is not None) == phantoms
        assert (spec.fingerprint() != stored["fingerprint"]) == phantoms
        assert "edition" not in spec.to_json()


def test_a_resolved_specification_has_no_open_settings() -> None:
    spec = RunSpec().resolved()
    assert isinstance(spec, ResolvedSpec)
    open_settings = ("lr", "weight_decay", "layer_decay", "warmup_epochs", "augmentation")
    assert all(getattr(spec.train, name) is not None for name in open_settings)
    assert spec.adapter.dropout is not None
    assert spec.data.subset_seed is not None


def test_settings_can_be_left_open_again() -> None:
    spec = RunSpec.of(**{"adapter.method": "full", "train.lr": 0.1, "train.epochs": 9})
    free = spec.resolved().without("train.lr", "train.weight_decay")
    assert not isinstance(free, ResolvedSpec)
    assert (free.train.lr, free.train.weight_decay, free.train.epochs) == (None, None, 9)
    assert free.resolved().train.lr == RunSpec.of(**{"adapter.method": "full"}).resolved().train.lr


def test_open_options_leave_no_trace() -> None:
    # The value of the default run on edition 2 of the phantoms: stored runs stay the same runs.
    assert RunSpec().fingerprint() == "d962cca972f67d2c"
    assert not set(OPTIONS) & set(DataSpec().model_dump())
    chosen = RunSpec.of(**{"data.uncertainty": "zeros", "data.patient": r"(p\d+)"})
    assert chosen.data.options() == {"uncertainty": "zeros", "patient": r"(p\d+)"}
    assert RunSpec.from_json(chosen.to_json()) == chosen
    assert chosen.fingerprint() != RunSpec().fingerprint()


def test_the_way_to_validate_is_part_of_a_run_where_it_is_not_the_paper_s() -> None:
    way, other = (RunSpec.of(**{"train.validation_share": share}) for share in (0.2, 0.3))
    assert way.fingerprint() == other.fingerprint() == RunSpec().fingerprint()
    assert RunSpec.from_json(other.to_json()) == other
    assert not {"validation", "validation_share"} & way.model_dump()["train"].keys()
    budgets = [
        RunSpec.of(**{"train.validation": "budget", "train.validation_share": share})
        for share in (0.2, 0.3)
    ]
    assert len({one.fingerprint() for one in (way, *budgets)}) == 3
    assert [RunSpec.from_json(one.to_json()) for one in budgets] == budgets
    assert "validate" in {setting.option for setting in fields()}


def test_one_source_whatever_is_drawn_from_it() -> None:
    few, many = (RunSpec.of(**{"data.label_fraction": one}) for one in (0.01, 0.5))
    assert few.data.source() == many.resolved().data.source()
    other = RunSpec.of(**{"data.views": "frontal"})
    assert other.data.source() != few.data.source()


@pytest.mark.parametrize(
    ("method", "optimizer", "lr", "layer_decay", "weight_decay"),
    [
        ("lora", "adamw", 3e-3 * 64 / 256, 1.0, 0.05),
        ("full", "adamw", 5e-4 * 64 / 256, 0.65, 0.05),
        ("lora", "sgd", 0.05, 1.0, 0.0),
        ("full", "sgd", 0.01, 1.0, 0.0),
    ],
)
def test_what_is_left_open_becomes_the_published_value(
    method: str, optimizer: str, lr: float, layer_decay: float, weight_decay: float
) -> None:
    asked = {"model.backbone": "mrm", "adapter.method": method, "train.optimizer": optimizer}
    train = RunSpec.of(**asked, **{"train.batch_size": 64}).resolved().train
    assert train.augmentation == "crop-flip"
    assert train.lr == pytest.approx(lr)
    assert train.layer_decay == layer_decay
    assert train.weight_decay == weight_decay


@pytest.mark.parametrize("backbone", ["embedded-mae", "embedded-mrm"])
def test_the_embedded_backbones_have_rates_of_their_own(backbone: str) -> None:
    for method, base in EMBEDDED_RATES.items():
        spec = RunSpec.of(**{"adapter.method": method, "model.backbone": backbone}).resolved()
        assert spec.train.lr == pytest.approx(base * spec.train.batch_size / 256)
        assert spec.train.augmentation == "none"
    published = RunSpec.of(**{"train.optimizer": "sgd", "train.batch_size": 64}).resolved()
    assert published.train.lr == pytest.approx(0.05)


def test_resolving_keeps_what_was_given_and_is_idempotent() -> None:
    spec = RunSpec.of(**{"train.lr": 0.123, "data.subset_seed": 7, "train.seed": 3})
    resolved = spec.resolved()
    assert resolved.train.lr == 0.123
    assert resolved.data.subset_seed == 7
    assert resolved.resolved() == resolved
    assert RunSpec.of(**{"train.seed": 3}).resolved().data.subset_seed == 3


def test_a_linear_probe_takes_no_augmentation_unless_asked() -> None:
    linear = {"adapter.method": "linear", "model.backbone": "mrm"}
    assert RunSpec.of(**linear).resolved().train.augmentation == "none"
    asked = RunSpec.of(**linear, **{"train.augmentation": "crop-flip"})
    assert asked.resolved().train.augmentation == "crop-flip"


@pytest.mark.parametrize("fraction", [0, -0.1, 1.7, float("nan"), "many"])
def test_a_label_fraction_out_of_range_is_refused_beside_its_field(fraction: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RunSpec.of(**{"data.label_fraction": fraction})
    assert caught.value.field == "data.label_fraction"
    assert repr(fraction) in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        RunSpec.of(**{"data.label_fraction": 1.7, "adapter.rank": 0, "train.epochs": 0})
    for name in ("label_fraction", "rank", "epochs"):
        assert name in str(caught.value)


def test_warm_up_must_leave_something_to_train() -> None:
    with pytest.raises(ConfigurationError, match="warm-up"):
        RunSpec.of(**{"train.epochs": 5, "train.warmup_epochs": 5})


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        RunSpec.from_json('{"train": {"learning_rte": 1}}')


def test_option_names_are_unique() -> None:
    options = [setting.option for setting in fields()]
    assert len(options) == len(set(options))
    assert {"data", "root", "backbone", "method", "rank", "label-fraction", "seed"} <= set(options)
    assert all(setting.description for setting in fields())


def test_an_unknown_name_is_answered_with_the_nearest_known_ones() -> None:
    error = unknown_name("backbone", "embeded-mae", ["mrm", "embedded-mae", "cxr-mae"])
    assert "Did you mean embedded-mae?" in str(error)
    assert "mrm" in str(error)


def test_a_switch_of_the_augmentation_counts_where_it_has_an_effect() -> None:
    crops = {"train.augmentation": "crop-flip"}
    usual, still = RunSpec.of(**crops), RunSpec.of(**crops, **{"train.flip": False})
    assert still.fingerprint() != usual.fingerprint()
    assert RunSpec.from_json(still.to_json()) == still
    assert not {"flip", "crop", "erase"} & usual.model_dump()["train"].keys()
    for without in ({"train.augmentation": "none", "train.flip": False}, {"train.flip": False}):
        off = RunSpec.of(**without)  # the default backbone is trained without augmentation
        assert off.fingerprint() == RunSpec().fingerprint()
        assert off.resolved().resolved() == off.resolved()
    assert RunSpec.of(**crops, **{"train.erase": False}).fingerprint() == usual.fingerprint()
    erasing = {"train.augmentation": "randaugment"}
    whole = RunSpec.of(**erasing, **{"train.erase": False})
    assert whole.fingerprint() != RunSpec.of(**erasing).fingerprint()
    neither = {"train.flip": False, "train.crop": False, "model.backbone": "mrm"}
    assert RunSpec.of(**neither).resolved().train.augmentation == "none"
    for refused in ({"train.augmentation": "crop-flip"}, {"train.augmented_copies": 3}):
        with pytest.raises(ConfigurationError, match=r"nothing of crop-flip|are the same"):
            RunSpec.of(**neither, **refused)


def test_loss_and_class_weight_are_part_of_a_run_where_they_are_not_the_default() -> None:
    specs = [
        RunSpec.of(**{"train.loss": loss, "train.class_weight": weight})
        for loss in ("bce", "focal", "asymmetric")
        for weight in ("none", "balanced")
    ]
    assert specs[0].fingerprint() == RunSpec().fingerprint()
    assert len({spec.fingerprint() for spec in specs}) == 6
    assert [RunSpec.from_json(spec.to_json()) for spec in specs] == specs
