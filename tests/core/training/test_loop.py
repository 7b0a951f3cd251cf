"""Training: what a run learns, writes, and does when it is stopped or something is wrong."""

import csv
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.classifier.trained import load_trained
from core.classifier.weights import read_state
from core.config.run import RunSpec
from core.data.datasets.registry import open_dataset
from core.data.images.reader import read_image
from core.errors import ConfigurationError, DataError, NotFiniteError, OutOfMemoryError, Stopped
from core.metrics.auroc import macro, per_finding
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.reporter import NullReporter
from core.training import checkpoint, loop, memory_errors, result, schedule
from core.training.loss import masked_loss
from core.training.setup import setup
from core.workspace import BEST, RESULT, SPEC

Run = Callable[..., tuple[Path, dict[str, Any]]]


class Notes(NullReporter):
    """A reporter that keeps what it is told, and asks to stop at the ``stop``-th question."""

    def __init__(self, stop: int | None = None) -> None:
        self.metrics: list[tuple[str, float, float, int]] = []
        self.phases: list[str] = []
        self.fractions: list[float] = []
        self.lines: list[str] = []
        self.parameters: tuple[int, int] | None = None
        self.asked, self.stop = 0, stop

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        self.metrics.append((name, value, epoch, step))

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        self.fractions.append(fraction)
        self.phases.append(phase)

    def stop_requested(self) -> bool:
        self.asked += 1
        return self.stop is not None and self.asked >= self.stop

    def model(self, trainable: int, total: int, device: str) -> None:
        self.parameters = trainable, total

    def log(self, text: str) -> None:
        self.lines.append(text)

    def rewind(self, kept: int) -> None:
        del self.metrics[kept:]

    def curves(self) -> list[tuple[str, float, float, int]]:
        """What does not depend on the machine's speed."""
        return [one for one in self.metrics if one[0] != "train/images_per_s"]


@pytest.fixture
def run(tmp_path: Path, tiny) -> Run:
    """Carry out a tiny run in a folder of its own."""

    def carry_out(
        name: str = "run",
        report: NullReporter | None = None,
        resume: bool = False,
        spec: RunSpec | None = None,
        **changes: Any,
    ) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path / name
        chosen = spec or tiny(**changes)
        return folder, loop.fine_tune(
            chosen, folder, tmp_path / "cache", report or NullReporter(), resume=resume
        )

    return carry_out


def rate(epoch: float, **changes: float) -> float:
    settings: dict[str, Any] = {"lr": 1.0, "min_lr": 0.1, "warmup_epochs": 2, "epochs": 12}
    return schedule.learning_rate(epoch, **settings | changes)


def test_a_long_enough_run_notes_how_fast_the_machine_is(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    loop.fine_tune(tiny(train__epochs=1), tmp_path / "short", cache, NullReporter())
    assert not (cache / "speed.json").exists()
    monkeypatch.setattr(result, "MIN_MEASURED_SECONDS", 0.0)
    loop.fine_tune(tiny(train__epochs=1), tmp_path / "long", cache, NullReporter())
    assert all(value > 0 for value in json.loads((cache / "speed.json").read_text()).values())


def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine() -> None:
    assert [rate(0), rate(0.5), rate(1), rate(2)] == pytest.approx([0, 0.25, 0.5, 1])
    assert rate(7) == pytest.approx(0.55)
    assert rate(12) == pytest.approx(0.1)
    assert rate(0, warmup_epochs=0) == 1
    falling = [rate(2 + i / 10) for i in range(101)]
    assert all(a > b for a, b in itertools.pairwise(falling))


def test_the_loss_counts_only_labels_that_are_known() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    nan = float("nan")
    loss = masked_loss(logits, torch.tensor([[1.0, nan], [nan, 0.0]]))
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(3.0))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 1] == gradient[1, 0] == 0
    assert gradient[0, 0] < 0 < gradient[1, 1]
    assert masked_loss(logits, torch.full((2, 2), nan)).item() == 0


@pytest.mark.parametrize("method", ["full", "linear", "lora"])
def test_a_run_writes_what_its_scores_come_from(run: Run, method: str) -> None:
    notes = Notes()
    folder, result = run(report=notes, adapter__method=method)
    assert json.loads((folder / RESULT).read_text()) == result
    assert result["findings"] == ["Pneumonia", "Plate"]
    assert result["positives"] == {"Pneumonia": 20, "Plate": 20}
    assert notes.parameters == (result["trainable"], result["total"])
    assert notes.fractions == sorted(notes.fractions)
    assert notes.fractions[-1] == 1
    names = {name for name, *_ in notes.metrics}
    assert names == {
        "train/loss", "train/lr", "train/images_per_s", "val/loss", "val/auroc",
        "val/auroc/Pneumonia", "val/auroc/Plate",
    }  # fmt: skip

    trained = load_trained(folder)
    dataset = open_dataset("folder", trained.spec.data.root)
    for split, count in (("val", 12), ("test", 16)):
        with np.load(folder / "predictions" / f"{split}.npz") as file:
            saved = dict(file)
        assert list(saved["ids"]) == dataset.ids(split)
        assert np.array_equal(saved["labels"], dataset.labels(dataset.ids(split)), equal_nan=True)
        each = per_finding(saved["labels"], saved["scores"])
        said = result["scores"][split]
        assert said["studies"] == count
        assert list(said["per_finding"].values()) == each.tolist()
        assert said["auroc"] == macro(each)
        again = [read_image(dataset.path(one), trained.side) for one in dataset.ids(split)]
        np.testing.assert_allclose(trained.probabilities(again), saved["scores"], atol=2e-3)  # bf16
    assert result["best_auroc"] == pytest.approx(result["scores"]["val"]["auroc"])


def test_a_run_learns_what_can_be_learnt(run: Run) -> None:
    _, result = run(
        adapter__method="full",
        train__epochs=8,
        train__batch_size=8,
        train__lr=1e-3,
        train__layer_decay=1.0,
        train__drop_path=0,
        train__augmentation="none",
    )
    assert result["scores"]["test"]["per_finding"]["Plate"] > 0.9
    assert result["best_auroc"] >= result["last_auroc"]


def test_lora_trains_only_its_own_matrices_and_the_classifier(tiny, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    spec = tiny(adapter__method="lora", train__lr=0.01).resolved()
    session = setup(spec, folder, tmp_path / "cache", NullReporter())
    before = {name: one.detach().clone() for name, one in session.model.state_dict().items()}
    loop.fit(session)
    after = session.model.state_dict()
    changed = {name for name, one in after.items() if not torch.equal(one, before[name])}
    assert changed == {name for name, one in session.model.named_parameters() if one.requires_grad}
    own = ("lora_A", "lora_B", "head.", "fc_norm.")
    assert all(any(part in name for part in own) for name in changed)
    assert {name.split(".lora_")[0][-6:] for name in changed if "lora" in name} == {
        ".qkv.q",
        ".qkv.v",
    }


def test_a_seed_decides_everything(run: Run) -> None:
    first, second = Notes(), Notes()
    folder, result = run("first", first)
    again, same = run("second", second)
    assert same["weights_sha256"] == result["weights_sha256"]
    assert second.curves() == first.curves()
    one, other = (read_state(place / BEST)[0] for place in (folder, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    _, other = run("third", train__seed=1)
    assert other["weights_sha256"] != result["weights_sha256"]


@pytest.mark.parametrize("method", ["lora", "linear", "adalora", "lora+"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(run: Run, method: str) -> None:
    whole, parts = Notes(), Notes()
    folder, result = run("whole", whole, adapter__method=method)
    # In an epoch, at once again, before a validation, in it, and in the last prediction.
    for stop in (2, 1, 1, 1, 4, 2):
        parts.stop, parts.asked = stop, 0
        with pytest.raises(Stopped):
            run("parts", parts, resume=True, adapter__method=method)
    parts.stop = None
    stopped, same = run("parts", parts, resume=True, adapter__method=method)
    assert same["weights_sha256"] == result["weights_sha256"]
    assert same["scores"] == result["scores"]
    assert parts.curves() == whole.curves()
    for split in ("val", "test"):
        pair = [np.load(one / "predictions" / f"{split}.npz") for one in (folder, stopped)]
        with pair[0] as one, pair[1] as other:
            assert np.array_equal(one["scores"], other["scores"])


class Killed(Exception):  # noqa: N818 - it is no error of the program
    """The process ends in the middle of a step."""


class Fatal(Notes):
    """A reporter in whose hands the process dies."""

    def stop_requested(self) -> bool:
        if super().stop_requested():
            raise Killed
        return False


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Notes()
    _, result = run("whole", whole)
    fatal = Fatal(stop=5)
    with monkeypatch.context() as quick:
        quick.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(Killed):
            run("killed", fatal)
    notes = Notes()
    notes.metrics = fatal.metrics
    _, same = run("killed", notes, resume=True)
    assert same["weights_sha256"] == result["weights_sha256"]
    assert notes.curves() == whole.curves()


def test_resuming_what_never_began_starts_it(run: Run) -> None:
    notes = Notes()
    notes.metrics = [("train/loss", 1.0, 0.0, 0)]
    run(report=notes, resume=True, train__epochs=1)
    assert "no checkpoint" in " ".join(notes.lines)
    assert [name for name, *_ in notes.metrics].count("train/loss") == 3


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(run: Run) -> None:
    folder, _ = run(train__epochs=1)
    told = (folder / SPEC).read_text()
    with pytest.raises(DataError, match="another specification"):
        run(resume=True, train__epochs=3)
    assert (folder / SPEC).read_text() == told
    path = folder / checkpoint.CHECKPOINT
    whole = path.read_bytes()
    for damaged in (whole[:-100], b"", b"no checkpoint at all"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read") as caught:
            run(resume=True, train__epochs=1)
        assert "start the run again" in caught.value.remedy


def test_a_full_disk_is_said_and_leaves_no_partial_file(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    partial = folder / f".{checkpoint.CHECKPOINT}.{os.getpid()}.part"
    partial.symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left") as caught:
        run("full")
    assert "Free space" in caught.value.remedy
    assert not partial.is_symlink()
    assert not (folder / checkpoint.CHECKPOINT).exists()
    _, result = run("full", resume=True)
    assert result["steps"] == 6


def overflowing_weights(path: Path) -> Path:
    """Weights that are finite, with outputs that are not."""
    state = network(backbone_card("timm:test_vit"), 2, 64).state_dict()
    state["patch_embed.proj.weight"].fill_(3e38)
    torch.save(state, path)
    return path


@pytest.mark.parametrize("method", ["full", "linear"])
def test_a_loss_that_is_not_a_number_ends_the_run(run: Run, tmp_path: Path, method: str) -> None:
    weights = overflowing_weights(tmp_path / "weights.pth")
    with pytest.raises(NotFiniteError, match="not finite at step 1") as caught:
        run(adapter__method=method, model__pretrained=True, model__weights=weights)
    assert "Lower the learning rate" in caught.value.remedy
    assert caught.value.field == "train.lr"


@pytest.fixture
def altered(radiographs: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the radiographs, with other labels in some splits."""

    def copy(splits: tuple[str, ...] = (), label: str = "0") -> Path:
        root = tmp_path / "altered"
        shutil.copytree(radiographs, root)
        with (root / "labels.csv").open(newline="") as file:
            head, *rows = csv.reader(file)
        rows = [[*row[:3], label, label] if row[2] in splits else row for row in rows]
        with (root / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])
        return root

    return copy


def test_without_a_positive_label_nothing_is_trained(run: Run, altered) -> None:
    with pytest.raises(DataError, match="None of the 40 labelled images is positive") as caught:
        run(data__root=altered(("train",)))
    assert caught.value.field == "data.label_fraction"


def test_without_both_labels_in_validation_no_epoch_can_be_chosen(run: Run, altered) -> None:
    with pytest.raises(DataError, match="validation split"):
        run(data__root=altered(("val",), "1"))


def test_an_undecided_test_split_has_no_auroc(run: Run, altered) -> None:
    folder, result = run(data__root=altered(("test",)), train__epochs=1)
    assert result["scores"]["test"]["auroc"] is None
    assert json.loads((folder / RESULT).read_text()) == result


def test_a_truncated_picture_is_named(run: Run, altered) -> None:
    root = altered()
    broken = root / "train-07.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"1 of 52 pictures cannot be read \(train-07\.png"):
        run(data__root=root)


def test_a_run_that_goes_on_without_bad_pictures_resumes_with_the_same_ones(
    run: Run, altered, tmp_path: Path
) -> None:
    root = altered()
    broken = root / "train-07.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    spec = {"data__root": root, "data__skip_bad": True, "train__epochs": 3}
    _, expected = run("straight", **spec)
    assert set(expected["skipped"]) == {"train-07.png"}
    assert expected["images"] == 39
    with pytest.raises(Stopped):
        run("stopped", Notes(stop=12), **spec)
    assert (tmp_path / "stopped" / "checkpoint.pt").exists()
    broken.write_bytes(whole)
    notes = Notes()
    _, result = run("stopped", notes, resume=True, **spec)
    assert result["skipped"] == expected["skipped"]
    assert any("train-07.png: " in line for line in notes.lines)
    assert result["weights_sha256"] == expected["weights_sha256"]


def test_a_run_without_any_picture_is_refused_even_where_it_may_go_on(run: Run, altered) -> None:
    root = altered()
    for one in root.glob("val-*.png"):
        one.write_text("no picture")
    with pytest.raises(DataError, match="no epoch can be selected"):
        run(data__root=root, data__skip_bad=True)


def test_without_a_readable_test_picture_there_is_no_test_auroc(run: Run, altered) -> None:
    root = altered()
    for one in root.glob("test-*.png"):
        one.write_bytes(b"")
    _, result = run(data__root=root, data__skip_bad=True, adapter__method="linear")
    assert list(result["scores"]) == ["val"]
    assert len(result["skipped"]) == 16


def test_what_the_machine_does_not_have_is_said_at_once(run: Run) -> None:
    with pytest.raises(ConfigurationError, match="fp16 needs a GPU") as caught:
        run(train__precision="fp16")
    assert caught.value.field == "train.precision"
    wanted = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ConfigurationError, match=wanted) as caught:
        run(train__device=wanted)
    assert caught.value.field == "train.device"


def test_a_lack_of_memory_is_said(tiny) -> None:
    with pytest.raises(OutOfMemoryError, match="batches of 16") as caught:  # noqa: SIM117
        with memory_errors.explain_out_of_memory(tiny()):
            torch.empty(2**60, dtype=torch.uint8)
    assert caught.value.field == "train.batch_size"


@pytest.mark.parametrize(
    "method",
    ["full", "linear", "dora", "adalora", "vblora", "oft", "boft", "fourierft", "ssf", "vpt"],
)
def test_mixed_precision_and_sgd_work_too(run: Run, method: str) -> None:
    folder, result = run(adapter__method=method, train__precision="bf16", train__optimizer="sgd")
    assert result["steps"] == 6
    state, _ = read_state(folder / BEST)
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_a_method_s_own_part_is_told_apart_from_the_loss(tiny, tmp_path: Path) -> None:
    session = setup(tiny(adapter__method="adalora").resolved(), tmp_path, tmp_path, NullReporter())
    assert session.hook is not None
    assert setup(tiny().resolved(), tmp_path, tmp_path, NullReporter()).hook is None
    before = float(session.hook.penalty().detach())
    ids = session.ids["train"][:8]
    session.cache.ensure(ids, lambda done, total: None, lambda: False)
    inputs = session.inputs.evaluation(ids)
    targets = torch.from_numpy(session.dataset.labels(ids))
    loss = loop.training_step(session, inputs, targets, 0)
    assert 0.5 < float(loss) < 0.9  # of a head that knows nothing yet, without the penalty
    assert before > 0.9


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "folder"), [("nih", "nih_chestxray14"), ("rsna", "rsna_pneumonia")]
)
def test_real_radiographs_go_the_same_way(
    run: Run, real_data: Path, name: str, folder: str
) -> None:
    place, result = run(
        data__name=name, data__root=real_data / folder, adapter__method="linear", train__epochs=3
    )
    with np.load(place / "predictions" / "test.npz") as file:
        assert len(set(file["ids"])) == result["scores"]["test"]["studies"] > 20
        assert np.isfinite(file["scores"]).all()
    assert 0 < result["scores"]["test"]["auroc"] < 1
