from pathlib import Path

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.training.joint import compatibility


def test_adapter_subset_and_optimizer_may_differ() -> None:
    other = RunSpec.of(
        **{
            "adapter.rank": 16,
            "adapter.alpha": 8.0,
            "adapter.dropout": 0.2,
            "data.label_fraction": 0.5,
            "train.seed": 7,
            "train.lr": 0.1,
            "train.epochs": 2,
            "train.optimizer": "sgd",
        }
    )
    assert compatibility.check_compatible([RunSpec(), other]) is None  # raises nothing


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.backbone", "embedded-mrm"),
        ("model.input_size", 64),
        ("model.weights", Path("other.pth")),
        ("adapter.method", "rslora"),
        ("adapter.targets", "all"),
        ("adapter.blocks", "0-2"),
        ("train.batch_size", 8),
        ("train.precision", "fp32"),
        ("train.device", "cuda"),
        ("train.augmentation", "crop-flip"),
    ],
)
def test_what_is_shared_must_be_the_same(path: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match="cannot be trained together") as caught:
        compatibility.check_compatible([RunSpec(), RunSpec.of(**{path: value})])
    assert caught.value.field == path


def test_another_data_set_or_other_labels_of_it_are_refused() -> None:
    for path, value in (("data.name", "phantom-5"), ("data.skip_bad", True)):
        with pytest.raises(ConfigurationError, match="cannot be trained together") as caught:
            compatibility.check_compatible([RunSpec(), RunSpec.of(**{path: value})])
        assert caught.value.field == "data.name"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("adapter.method", "full"),
        ("train.precision", "fp16"),
        ("train.track", "tensorboard"),
        ("train.accumulation", 2),
        ("train.activation_checkpointing", True),
        ("train.compile", True),
    ],
)
def test_what_cannot_be_stacked_is_refused(path: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compatibility.check_compatible([RunSpec.of(**{path: value})])
    assert caught.value.field == path
