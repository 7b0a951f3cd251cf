"""Tuned defaults fill in what a new run leaves open; stored runs keep their meaning."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from core.config import tuned
from core.config.run import RunSpec
from core.config.tuned import TunedDefault
from core.errors import ConfigurationError

LORA = RunSpec()


def default_of(spec: RunSpec, **settings: Any) -> TunedDefault:
    same = {path: tuned.value_of(spec, path) for path in (*tuned.SAME, "adapter.rank")}
    return TunedDefault(same, tuned.source_of(spec.data), {"train.lr": 0.0123, **settings})


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "defaults.json"
    entry = default_of(LORA, **{"train.weight_decay": 0.01})
    file.write_text(json.dumps({"defaults": [asdict(entry)]}))
    monkeypatch.setattr(tuned, "FILE", file)
    return file


def changed(**fields: Any) -> RunSpec:
    return RunSpec.of(**{name.replace("__", "."): value for name, value in fields.items()})


def test_open_settings_are_filled_in(shipped: Path) -> None:
    spec = tuned.with_tuned_defaults(LORA)
    assert (spec.train.lr, spec.train.weight_decay) == (0.0123, 0.01)
    assert tuned.with_tuned_defaults(spec) == spec
    given = tuned.with_tuned_defaults(changed(train__lr=0.5))
    assert (given.train.lr, given.train.weight_decay) == (0.5, 0.01)
    assert tuned.tuned_for(spec)
    assert not tuned.tuned_for(LORA)
    assert not tuned.tuned_for(given)


@pytest.mark.parametrize(
    "fields",
    [
        {"adapter__method": "full"},
        {"adapter__rank": 8},
        {"model__backbone": "embedded-simclr"},
        {"model__pretrained": False},
        {"data__label_fraction": 0.2},
        {"data__name": "phantom-5"},
        {"data__shuffle_labels": True},
        {"data__split_file": Path("list.txt")},
        {"train__batch_size": 32},
        {"train__optimizer": "sgd"},
    ],
)
def test_only_exactly_this_comparison_has_them(shipped: Path, fields: dict[str, Any]) -> None:
    spec = changed(**fields)
    assert tuned.with_tuned_defaults(spec) == spec
    assert not tuned.tuned_for(spec)


@pytest.mark.parametrize("fields", [{"train__seed": 7}, {"train__epochs": 2}, {"data__root": "/x"}])
def test_seed_epochs_and_place_do_not_matter(shipped: Path, fields: dict[str, Any]) -> None:
    assert tuned.with_tuned_defaults(changed(**fields)).train.lr == 0.0123


def test_stored_runs_keep_their_meaning(shipped: Path) -> None:
    stored = RunSpec.from_json(LORA.to_json())
    assert stored == LORA
    assert stored.resolved().train.lr == 0.002
    before = LORA.fingerprint()
    shipped.unlink()
    assert LORA.fingerprint() == before
    assert tuned.with_tuned_defaults(LORA) == LORA


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert tuned.read(tmp_path / "missing.json") == ()
    damaged = tmp_path / "damaged.json"
    for text in ("{", "[]", '{"defaults": [{"same": 1}]}'):
        damaged.write_text(text)
        with pytest.raises(ConfigurationError, match="cannot be read"):
            tuned.read(damaged)
        damaged.unlink()


def test_what_is_shipped_can_be_read() -> None:
    assert all(entry.evidence for entry in tuned.read(tuned.FILE))
