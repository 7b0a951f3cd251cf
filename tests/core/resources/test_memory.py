"""Predicted memory of a run, micro-batches, and the check against the device."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.cli.app import app
from core.config.run import ResolvedSpec, RunSpec
from core.errors import ConfigurationError
from core.hardware import available_memory
from core.models.tuning.registry import TUNING_METHODS
from core.resources import memory


def vit(method: str = "full", **changes: object) -> ResolvedSpec:
    fields = {"model__backbone": "timm:test_vit", "adapter__method": method, "train__device": "cpu"}
    named = {name.replace("__", "."): value for name, value in (fields | changes).items()}
    return RunSpec.of(**named).resolved()


@pytest.mark.slow
@pytest.mark.parametrize("method", TUNING_METHODS)
def test_every_method_is_counted(method: str) -> None:
    found = memory.footprint(vit(method), 2)
    assert found is not None
    assert found.weights >= found.trainable
    assert found.trainable > 0 or method == "knn"
    assert found.each > 0 or TUNING_METHODS[method].frozen_backbone


def test_what_saves_memory_needs_less() -> None:
    def needed(method: str = "full", **changes: object) -> int:
        found = memory.predict_memory(vit(method, train__batch_size=256, **changes), 2)
        assert found is not None
        return found

    assert needed("linear") < needed("lora") < needed()
    assert needed(train__accumulation=4) < needed()
    assert needed(train__activation_checkpointing=True) < needed()
    assert needed(model__input_size=96) < needed()
    assert needed(train__optimizer="sgd") < needed()


def test_the_largest_batch_fits_and_twice_of_it_does_not() -> None:
    spec, limit = vit(), 3e9
    batch = memory.largest_batch(spec, 2, limit)
    found = memory.footprint(spec, 2)
    assert found is not None
    assert found.peak(batch) <= limit < found.peak(2 * batch)
    assert memory.largest_batch(spec, 2, 1e6) == 0


def test_what_cannot_fit_is_refused_with_what_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        available_memory, "host", lambda: available_memory.Capacity(int(3e9), int(2e9))
    )
    memory.check_memory(vit(), 2)
    with pytest.raises(ConfigurationError) as caught:
        memory.check_memory(vit(train__batch_size=4096, train__accumulation=1), 2)
    assert caught.value.field == "train.batch_size"
    assert "this device has 3.0 GB" in caught.value.cause
    fitting = memory.largest_batch(vit(), 2, 3e9)
    assert f"Lower the batch size to {fitting:,}, choose the method lora" in caught.value.remedy


def test_a_batch_is_cut_into_as_few_parts_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    large = vit(train__batch_size=4096)
    assert memory.micro_batches(vit(), 2) == 1
    assert memory.micro_batches(vit(train__accumulation=3), 2) == 3
    monkeypatch.setattr(
        available_memory, "host", lambda: available_memory.Capacity(int(3e9), int(2e9))
    )
    count, found = memory.micro_batches(large, 2), memory.footprint(large, 2)
    assert found is not None
    assert found.peak(4096, count) <= memory.USABLE_SHARE * 3e9 < found.peak(4096, count // 2)
    assert memory.predict_memory(large, 2) == found.peak(4096, count)
    memory.check_memory(large, 2)


def test_what_does_not_fit_in_single_pictures_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        available_memory, "host", lambda: available_memory.Capacity(int(0.8e9), int(0.8e9))
    )
    with pytest.raises(ConfigurationError, match="Even single images need") as caught:
        memory.check_memory(vit(), 2)
    assert "smaller backbone" in caught.value.remedy
    assert "accumulation" not in caught.value.remedy


def test_nothing_is_counted_where_no_backbone_could_fill_half_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "footprint", lambda spec, findings: pytest.fail("counted"))
    monkeypatch.setattr(
        available_memory, "host", lambda: available_memory.Capacity(int(16e9), int(16e9))
    )
    assert memory.micro_batches(RunSpec().resolved(), 14) == 1


@pytest.mark.slow
def test_the_command_line_refuses_before_a_run_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        available_memory, "host", lambda: available_memory.Capacity(int(64e9), int(64e9))
    )
    words = ["train", "--data", "phantom-1", "--backbone", "timm:vit_large_patch16_224",
             "--method", "full", "--batch-size", "4096", "--device", "cpu", "--no-pretrained",
             "--accumulation", "1", "--workspace", str(tmp_path)]  # fmt: skip
    found = CliRunner().invoke(app, words)
    assert isinstance(found.exception, ConfigurationError)
    assert "4,096 need about" in str(found.exception)
    assert not (tmp_path / "runs").exists()
