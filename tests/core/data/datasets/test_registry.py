"""Opening a data set by what a run says of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from core.config.run import OPTIONS, DataSpec
from core.data.datasets.registry import DATASETS, open_data
from core.errors import ConfigurationError, DataError


@pytest.mark.parametrize("name", DATASETS)
def test_options_are_settings_of_a_run_and_arguments_of_the_class(name: str) -> None:
    entry = DATASETS[name]
    assert set(entry.options) <= set(OPTIONS)
    module, _, reader = entry.reader.partition(":")
    kind = getattr(import_module(module), reader)
    parameters = inspect.signature(kind).parameters
    for key, option in entry.options.items():
        assert option.label
        assert bool(option.choices) != bool(option.example)
        default = parameters[key].default
        assert default == next(iter(option.choices), None)


def test_a_run_says_where_the_patient_stands(made: Callable[[str], Any]) -> None:
    root = made("folder-classes").root
    one = next(iter(made("folder-classes").patients))
    asked = DataSpec(name="folder", root=root, patient=r"(person\d+|(?:NORMAL2-)?IM-\d+)")
    assert open_data(asked).study(one).patient == made("folder-classes").patients[one]
    assert open_data(DataSpec(name="folder", root=root)).study(one).patient == one


@pytest.mark.parametrize("pattern", ["(", "nobody"])
def test_a_pattern_that_does_not_fit_is_quoted(pattern: str, made: Callable[[str], Any]) -> None:
    with pytest.raises(DataError, match=re.escape(f"“{pattern}”")) as caught:
        open_data(DataSpec(name="folder", root=made("folder-classes").root, patient=pattern))
    assert caught.value.field == "data.patient"


def test_an_option_of_another_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no option “uncertainty”") as caught:
        open_data(DataSpec(name="nih", root=tmp_path, uncertainty="zeros"))
    assert caught.value.field == "data.uncertainty"
    with pytest.raises(ConfigurationError):
        open_data(DataSpec(name="nih15"))
