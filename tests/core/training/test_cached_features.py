"""A frozen part computed once: the same run, faster, whatever becomes of the cache."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.data.cache import disk_space
from core.errors import ConfigurationError, Stopped
from core.models.tuning import frozen_prefix
from core.training.cached_features import CachedFeatures
from core.training.inputs import PixelInputs
from core.training.loop import fine_tune
from core.training.setup import setup
from tests.support.reporters import Notes

STUDIES = 40 + 12 + 16
LAST = {"adapter__method": "last-k", "train__drop_path": 0.0, "train__augmentation": "none"}
BLOCKS = {**LAST, "adapter__method": "lora", "adapter__blocks": "4-5", "adapter__dropout": 0.3}
PROBE = {"adapter__method": "linear"}
COPIES = {"train__augmentation": None, "train__augmented_copies": 2, "train__epochs": 3}
Run = Callable[..., dict[str, float]]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of images for which the frozen prefix was computed."""
    counts: list[int] = []
    compute = CachedFeatures._compute

    def counting(self: CachedFeatures, versions: Any) -> None:
        counts.append(len(self._absent(versions)))
        compute(self, versions)

    monkeypatch.setattr(CachedFeatures, "_compute", counting)
    return counts


@pytest.fixture
def losses(tiny, tmp_path: Path) -> Run:
    """Losses and scores of a run, in fp32; the workspace's cache is the same for all."""

    def run_tiny(
        name: str = "run", report: Notes | None = None, resume: bool = False, **changes: Any
    ) -> dict[str, float]:
        notes = report or Notes()
        spec = tiny(**{"train__precision": "fp32", "train__lr": 0.01} | changes)
        result = fine_tune(spec, tmp_path / name, tmp_path / "cache", notes, resume=resume)
        curves = {f"{n} {s}": v for n, v, _, s in notes.metrics if n.endswith("/loss")}
        return curves | {split: one["auroc"] for split, one in result["scores"].items()}

    return run_tiny


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_prefix, "cut", lambda *_: None)


@pytest.mark.parametrize(
    ("settings", "computed"),
    [
        (PROBE, STUDIES),
        (LAST, STUDIES),
        (BLOCKS, STUDIES),
        (PROBE | COPIES, STUDIES + 40),
        (LAST | COPIES, STUDIES + 40),
    ],
    ids=["probe", "last-k", "lora on blocks", "probe on copies", "last-k on copies"],
)
def test_a_run_is_the_same_with_and_without(
    losses: Run, monkeypatch: pytest.MonkeyPatch, counted: list[int],
    settings: dict[str, Any], computed: int,
) -> None:  # fmt: skip
    kept = losses("kept", **settings)
    assert sum(counted) == computed
    without(monkeypatch)
    assert losses("whole", **settings) == pytest.approx(kept, abs=1e-5)
    assert sum(counted) == computed


def test_another_seed_rate_or_fraction_reads_what_is_there(losses: Run, counted: list[int]) -> None:
    for settings in (PROBE, LAST):
        counted.clear()
        notes = Notes()
        first = losses("first", **settings)
        assert sum(counted) == STUDIES
        assert losses("again", notes, **settings) == first
        changed = {"data__subset_seed": 1, "train__lr": 0.02, "data__label_fraction": 0.5}
        assert losses("another", **settings, **changed) != first
        assert sum(counted) == STUDIES
        assert any("of 52 images are in the cache" in line for line in notes.lines)
    # Other random weights, other frozen part.
    losses("other", **PROBE, train__seed=1)
    assert sum(counted) == 2 * STUDIES


def test_a_damaged_file_is_computed_again(losses: Run, counted: list[int], tmp_path: Path) -> None:
    whole = losses(**LAST)
    for file in (tmp_path / "cache" / disk_space.FEATURES).glob("*/*.u8"):
        content = bytearray(file.read_bytes())
        content[100] ^= 255
        file.write_bytes(content)
    counted.clear()
    assert losses("again", **LAST) == pytest.approx(whole, abs=1e-5)
    assert 0 < sum(counted) <= 3
    counted.clear()
    assert losses("once more", **LAST) == pytest.approx(whole, abs=1e-5)
    assert sum(counted) == 0


@pytest.mark.parametrize("settings", [PROBE, LAST])
def test_without_room_the_run_goes_on(
    losses: Run, monkeypatch: pytest.MonkeyPatch, counted: list[int], tmp_path: Path,
    settings: dict[str, Any],
) -> None:  # fmt: skip
    wanted = losses("wanted", **settings)
    features = tmp_path / "cache" / disk_space.FEATURES
    features.rename(tmp_path / "away")
    counted.clear()
    monkeypatch.setattr(disk_space, "SHARE_OF_FREE", 0.0)
    notes = Notes()
    assert losses("no room", notes, **settings) == pytest.approx(wanted, abs=1e-5)
    log = " ".join(notes.lines)
    assert "more than 0% of the free space" in log
    assert ("kept in memory" in log) == (settings is PROBE)
    assert ("computed at each step instead" in log) == (settings is LAST)
    assert sum(counted) == (STUDIES if settings is PROBE else 0)
    assert not list(features.glob("*/*.u8"))
    features.rename(tmp_path / "also away")
    features.write_text("a file where the folder should be")
    notes = Notes()
    assert losses("no folder", notes, **settings) == pytest.approx(wanted, abs=1e-5)
    assert "cannot be written" in " ".join(notes.lines)


@pytest.mark.parametrize("settings", [LAST, PROBE | COPIES])
def test_a_run_that_was_stopped_goes_on_alike(losses: Run, settings: dict[str, Any]) -> None:
    whole = losses("whole", **settings)
    notes = Notes()
    for stop in (2, 5):
        notes.stop, notes.asked = stop, 0
        with pytest.raises(Stopped):
            losses("parts", notes, resume=True, **settings)
    notes.stop = None
    assert losses("parts", notes, resume=True, **settings) == whole


def test_bf16_keeps_half_and_differs_by_its_rounding(losses: Run, tmp_path: Path) -> None:
    full = losses("fp32", **LAST)
    half = losses("bf16", **LAST, train__precision="bf16")
    sizes = sorted(
        sum(file.stat().st_size for file in folder.glob("*.u8"))
        for folder in (tmp_path / "cache" / disk_space.FEATURES).iterdir()
    )
    bytes_each = 17 * 64
    assert sizes == [STUDIES * (bytes_each * 2 + 4), STUDIES * (bytes_each * 4 + 4)]
    names = [name for name in full if "loss" in name]
    assert [half[name] for name in names] == pytest.approx([full[n] for n in names], abs=0.05)


def inputs_of(spec: RunSpec, folder: Path) -> tuple[Any, list[str]]:
    notes = Notes()
    return setup(spec.resolved(), folder, folder / "cache", notes).inputs, notes.lines


def test_nothing_is_kept_that_would_change_or_not_pay(tiny, tmp_path: Path) -> None:
    def kept(**changes: Any) -> bool:
        inputs, _ = inputs_of(tiny(**changes), tmp_path)
        assert isinstance(inputs, CachedFeatures | PixelInputs)
        return isinstance(inputs, CachedFeatures)

    assert kept(**PROBE)
    assert kept(**LAST)
    assert not kept(**PROBE | {"train__augmentation": "crop-flip"})
    assert not kept(**LAST | {"train__augmentation": "crop-flip"})
    assert not kept(**LAST | {"adapter__last_blocks": 5})
    assert not kept(**LAST | {"adapter__method": "lora"})
    inputs, lines = inputs_of(tiny(**LAST | {"train__drop_path": 0.1}), tmp_path)
    assert isinstance(inputs, PixelInputs)
    assert "first 4 of 6 blocks are frozen but use stochastic depth" in " ".join(lines)


def test_copies_are_a_choice_that_old_runs_do_not_know() -> None:
    plain, copies = RunSpec.of(), RunSpec.of(**{"train.augmented_copies": 4})
    assert "augmented_copies" not in plain.model_dump()["train"]
    assert copies.resolved().train.augmentation == "crop-flip"
    assert copies.fingerprint() != plain.fingerprint()
    assert RunSpec.from_json(copies.to_json()) == copies
    with pytest.raises(ConfigurationError, match="all augmented copies are the same"):
        RunSpec.of(**{"train.augmented_copies": 4, "train.augmentation": "none"})
