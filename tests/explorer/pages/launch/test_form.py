from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config.run import RunSpec
from core.errors import ConfigurationError
from explorer.pages.launch import form

SPECS = st.builds(
    lambda fraction, rank, lr, root, method, seed, augmentation, track: RunSpec.of(
        **{
            "data.label_fraction": fraction,
            "data.root": root,
            "adapter.rank": rank,
            "adapter.method": method,
            "train.lr": lr,
            "train.seed": seed,
            "train.augmentation": augmentation,
            "train.track": track,
        }
    ),
    st.one_of(st.sampled_from([0.01, 0.1, 1.0]), st.sampled_from([0.003, 0.07, 0.333])),
    st.integers(1, 64),
    st.one_of(st.none(), st.floats(1e-6, 1)),
    st.one_of(st.none(), st.just(Path("/data/nih"))),
    st.sampled_from(["lora", "full"]),
    st.integers(0, 100),
    st.sampled_from([None, "none", "randaugment"]),
    st.sampled_from([None, "mlflow", "tensorboard,wandb"]),
)


@given(SPECS)
def test_the_form_describes_the_specification_it_shows(spec: RunSpec) -> None:
    values, percent = form.values_of(spec)
    assert form.spec_of(values, percent) == spec


@given(SPECS)
def test_the_address_holds_the_whole_form(spec: RunSpec) -> None:
    text = form.encode(spec)
    assert (form.decode(text) if text else RunSpec()) == spec


def test_the_default_form_needs_no_address() -> None:
    assert form.encode(RunSpec()) == ""


def test_whole_numbers_come_as_floats_from_the_browser() -> None:
    values, _ = form.values_of(RunSpec())
    assert form.spec_of({**values, "adapter.rank": 8.0}, None).adapter.rank == 8
    with pytest.raises(ConfigurationError) as caught:
        form.spec_of({**values, "adapter.rank": 8.5}, None)
    assert caught.value.field == "adapter.rank"


@pytest.mark.parametrize("percent", [None, 0, -3, 170])
def test_a_typed_fraction_is_checked_in_percent(percent: float | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        form.spec_of({"data.label_fraction": form.OTHER}, percent)
    assert caught.value.field == "data.label_fraction"
    assert "100" in caught.value.remedy


@pytest.mark.parametrize(
    ("path", "value"),
    [("adapter.rank", 0), ("train.epochs", None), ("train.lr", -1), ("train.device", "tpu")],
)
def test_errors_name_their_field(path: str, value: Any) -> None:
    values, percent = form.values_of(RunSpec())
    with pytest.raises(ConfigurationError) as caught:
        form.spec_of({**values, path: value}, percent)
    assert caught.value.field == path


@pytest.mark.parametrize("text", ["{", "[]", '{"adapter.rank": 0}', '{"nonsense.x": 1}'])
def test_an_invalid_address_is_an_error(text: str) -> None:
    with pytest.raises(ConfigurationError):
        form.decode(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("  ", None),
        ("16", 16),
        (" 1e-3 ", 1e-3),
        ("fast", "fast"),
        (None, None),
        (7, 7),
    ],
)
def test_typed_numbers_are_read(text: Any, expected: Any) -> None:
    number = form.parse_number(text)
    assert (number, type(number)) == (expected, type(expected))


def test_text_instead_of_a_number_is_an_error_of_its_field() -> None:
    with pytest.raises(ConfigurationError) as refused:
        form.spec_of({"train.lr": "fast"}, None)
    assert refused.value.field == "train.lr"
    with pytest.raises(ConfigurationError, match="half% is not a label fraction"):
        form.spec_of({"data.label_fraction": form.OTHER}, "half")


def test_numbers_that_may_be_empty_have_text_fields() -> None:
    values, _ = form.values_of(RunSpec())
    numbers = {path for path, value in values.items() if isinstance(value, int | float)}
    assert not numbers & form.NUMBERS.keys()
    assert set(form.PATHS) >= form.NUMBERS.keys()
    assert {path for path, value in values.items() if value is None} <= {"train.augmentation"}
