"""Runs that cannot be set up: unusable data, or a device that does not exist."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import ConfigurationError, DataError

Run = Callable[..., tuple[Path, dict[str, Any]]]


def test_without_a_positive_label_nothing_is_trained(run: Run, altered) -> None:
    with pytest.raises(DataError, match="None of the 40 labelled images is positive") as caught:
        run(data__root=altered(("train",)))
    assert caught.value.field == "data.label_fraction"


def test_without_both_labels_in_validation_no_epoch_can_be_chosen(run: Run, altered) -> None:
    with pytest.raises(DataError, match="validation split"):
        run(data__root=altered(("val",), "1"))


def test_what_the_machine_does_not_have_is_said_at_once(run: Run) -> None:
    with pytest.raises(ConfigurationError, match="fp16 needs a GPU") as caught:
        run(train__precision="fp16")
    assert caught.value.field == "train.precision"
    wanted = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ConfigurationError, match=wanted) as caught:
        run(train__device=wanted)
    assert caught.value.field == "train.device"


def test_a_truncated_picture_is_named(run: Run, altered) -> None:
    root = altered()
    broken = root / "train-07.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"1 of 52 images cannot be read \(train-07\.png"):
        run(data__root=root)


def test_a_run_without_any_picture_is_refused_even_where_it_may_go_on(run: Run, altered) -> None:
    root = altered()
    for one in root.glob("val-*.png"):
        one.write_text("no picture")
    with pytest.raises(DataError, match="no epoch can be selected"):
        run(data__root=root, data__skip_bad=True)
