"""One loop for every method: setup → fit → validate → predict.

LoRA, full fine-tuning and the linear probe differ only in which parameters train, so that a
comparison between them compares nothing else. The recipe is the study's (arXiv 2401.12215).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from core.classifier.trained import digest, read_state, write_atomically
from core.config.run import RunSpec
from core.data import splits, subsets
from core.errors import OutOfMemoryError, Stopped
from core.hardware import available_memory as capacity
from core.hardware import distributed as ranks
from core.hardware import precision
from core.metrics import auroc as stats
from core.models.tuning import apply as adapters
from core.reporter import Reporter
from core.resources import memory
from core.resources import throughput as speed
from core.training import checkpoint, validation
from core.training.cached_features import PrefixFeed
from core.training.inputs import batches, one_ahead, pieces_of, step_seed
from core.training.loss import known_labels, masked_loss, not_finite
from core.training.session import TRAINED, Session, setup
from core.workspace import BEST, RESULT, SPEC, SUBSET

CHECKPOINT_SECONDS = 120.0
POINTS_A_CURVE = 500
WORTH_MEASURING = 10.0
"""Seconds of epochs from which on a run measures the machine's speed at its end: half a second."""


def learning_rate(
    epoch: float, *, lr: float, min_lr: float, warmup_epochs: float, epochs: int
) -> float:
    """Linear warm-up from 0, then a half-cycle cosine down to ``min_lr``, at any point of an epoch.

    Args:
        epoch: Epochs done so far, with its fraction, in [0, epochs].
        lr: Peak learning rate, reached at the end of the warm-up.
        min_lr: Learning rate at the end.
        warmup_epochs: Length of the warm-up.
        epochs: Length of the whole run.

    Returns:
        The learning rate of the next step.
    """
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    done = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return min_lr + (lr - min_lr) * 0.5 * (1.0 + math.cos(math.pi * done))


def run(
    spec: RunSpec, folder: Path, cache: Path, report: Reporter, *, resume: bool = False
) -> dict[str, Any]:
    """Carry out one run, from opening the data set to the test AUROC.

    Args:
        spec: What to do.
        folder: The run's folder; weights, predictions and checkpoints are written there.
        cache: Folder of decoded images, shared between runs.
        report: Told of metrics and progress, and asked whether to stop.
        resume: Go on from the folder's last checkpoint, if it has one.

    Returns:
        Scores by split, trainable and total parameters, best epoch, ``weights_sha256``, times.

    Raises:
        Stopped: ``report`` asked for it; a checkpoint was written.
        DataError: The data set is missing, incomplete or has no usable labels.
        ModelError: The backbone cannot be loaded.
        ConfigurationError: The settings do not fit together.
        NotFiniteError: The loss became NaN or infinite.
        OutOfMemoryError: The device or the host ran out of memory.
    """
    spec = spec.resolved()
    with ranks.others_explained(), memory_explained(spec):
        session = setup(spec, folder, cache, report)
        result = carry_out(session, resume=resume)
    if session.ranks.main and session.elapsed() > WORTH_MEASURING:
        _measure(session, cache)
    return result


def carry_out(session: Session, *, resume: bool = False) -> dict[str, Any]:
    """The same, once everything is set up."""
    folder = session.folder
    if session.ranks.share(resume):
        checkpoint.load(session)
    if session.ranks.main:
        folder.mkdir(parents=True, exist_ok=True)
        splits.write_list(folder / SUBSET, session.dataset, session.ids["train"])
        write_atomically(folder / SPEC, session.spec.model_dump_json(indent=2).encode())
    fit(session)
    return finish(session)


def fit(session: Session) -> None:
    """Train to the last epoch, validate after each epoch and keep the best."""
    spec, position = session.spec, session.position
    train = spec.train
    prepare(session, "train", "val")
    ids = session.ids["train"]
    session.started = time.monotonic()  # what is left is told by the time of the epochs alone
    taught = subsets.labels(session.dataset, ids, spec.data)
    labels = dict(zip(ids, taught, strict=True))
    budget = validation.budget(session)
    while position.unvalidated or position.epoch < train.epochs:
        if not position.unvalidated:
            train_epoch(session, labels)
        with _secured(session):
            validation.validate(session, budget)
        position.unvalidated = False
        checkpoint.save(session)
    validation.clear(session)


def train_epoch(session: Session, labels: dict[str, NDArray[np.float32]]) -> None:
    """Train to the end of the current epoch, with checkpoints by time on the way."""
    train, position = session.spec.train, session.position
    parts = batches(session.ids["train"], train.batch_size, train.seed, position.epoch)
    every = max(1, train.epochs * len(parts) // POINTS_A_CURVE)
    started = last_saved = time.monotonic()
    seen = 0

    def load(i: int) -> Tensor:
        seed = step_seed(train.seed, position.epoch, i)
        generator = torch.Generator().manual_seed(seed)
        mine = session.ranks.part(len(parts[i]))
        made = session.feed.training(parts[i], generator, mine, position.epoch)
        return made.pin_memory() if session.accelerator.device.type == "cuda" else made

    for i, inputs in one_ahead(load, position.batch, len(parts)):
        rate = _set_rate(session, position.epoch + i / len(parts))
        targets = torch.from_numpy(np.stack([labels[one] for one in parts[i]]))
        session.losses.append(step(session, inputs, targets, i))
        seen += len(parts[i])
        position.batch, position.step = i + 1, position.step + 1
        last = position.batch == len(parts)
        if last or position.step % every == 0:
            _tell_progress(session, len(parts))
            _record_loss(session, rate, len(parts))
        stop = session.stop_requested()
        if not last and (stop or time.monotonic() - last_saved > CHECKPOINT_SECONDS):
            if stop:
                raise checkpoint.stopped(session)
            checkpoint.save(session)
            last_saved = time.monotonic()
    position.epoch, position.batch, position.unvalidated = position.epoch + 1, 0, True
    session.record("train/images_per_s", seen / max(time.monotonic() - started, 1e-9))


def step(session: Session, inputs: Tensor, targets: Tensor, batch: int) -> Tensor:
    """One optimizer step.

    Args:
        session: The run.
        inputs: What the feed made of this process's part of the batch, on the host.
        targets: Labels of the whole batch, of shape (studies, findings): 1, 0, or NaN where not
            known.
        batch: Number of the batch in its epoch.

    Returns:
        The whole batch's loss before the step, a scalar on the device, without a method's own
        penalty.
    """
    # Dropout and stochastic depth draw from the global generator: seeded at each step, they do not
    # depend on what was computed before.
    place, train = session.ranks, session.spec.train
    torch.manual_seed(step_seed(train.seed, session.position.epoch, batch) + place.index)
    session.parallel.train(session.spec.adapter.method != "linear")
    device, beside = session.accelerator.device, session.companion
    known, mine = known_labels(targets), targets[place.part(len(targets))]
    # All processes cut their part alike, or one would wait for gradients that nobody sends.
    pieces = min(session.pieces, len(targets) // place.count)
    total = torch.zeros((), device=device)
    session.optimizer.zero_grad(set_to_none=True)
    for i, piece in enumerate(pieces_of(len(mine), pieces)):
        some = inputs[piece].to(device, non_blocking=True)
        with session.accelerator.autocast():
            logits = session.feed.forward(session.parallel, some)
        told = mine[piece].to(device, non_blocking=True)
        # The processes' gradients are averaged: so many times its share of the batch's loss is
        # each's.
        loss = masked_loss(logits.float(), told, known) * place.count
        total += loss.detach()
        last = i + 1 == pieces
        session.accelerator.backward(loss + beside.penalty() if beside and last else loss)
    session.optimizer.step()
    if beside is not None:
        beside.after_step(session.position.step + 1)
    return place.mean(total)


def finish(session: Session) -> dict[str, Any]:
    """Load the best epoch's weights, predict validation and test, write and return the result."""
    report, position, weights = session.report, session.position, session.weights
    state, _ = session.ranks.from_main(lambda: read_state(session.folder / BEST))
    adapters.load_trainable_state(session.model, state)
    if session.ids["test"]:
        prepare(session, "test", at=TRAINED)
    if not session.ids["test"]:
        report.log("The data set has no test split; there is no test AUROC.")
    with _secured(session):
        scores = {split: _score(session, split) for split in ("val", "test") if session.ids[split]}
    on_gpu = session.accelerator.device.type == "cuda"
    result = {
        "scores": scores,
        "findings": list(session.dataset.findings),
        "split": session.dataset.split_name,
        "images": len(session.ids["train"]),
        "positives": splits.positives(session.dataset, session.ids["train"]),
        "skipped": session.skipped,
        "trainable": weights.trainable,
        "total": weights.total,
        "best_auroc": position.best_auroc,
        "best_epoch": position.best_epoch,
        "last_auroc": position.last_auroc,
        "steps": position.step,
        "seconds": round(session.elapsed(), 2),
        "weights_sha256": digest(state),
        "backbone_sha256": weights.sha256,
        "device": str(session.accelerator.device),
        "precision": session.accelerator.mixed_precision,
        "peak_device_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "host_bytes": psutil.Process().memory_info().rss,
        "peak_host_bytes": capacity.peak(),
        "predicted_bytes": memory.predict(session.spec, len(session.dataset.findings)),
    }
    if session.ranks.main:
        write_atomically(session.folder / RESULT, json.dumps(result, indent=2).encode())
    report.progress(1.0, 0.0, "done")
    return result


def prepare(session: Session, *parts: str, at: float = 0.0) -> None:
    """Decode what is not in the cache, and compute what the feed needs only once.

    Args:
        session: The run; where it may, it goes on without pictures that cannot be read.
        *parts: The splits whose studies will be asked for.
        at: Progress of the run, 0 to 1.

    Raises:
        DataError: Pictures are missing or unreadable.
        Stopped: The user asked for it; what is done by then is kept.
    """
    report = session.report

    def telling(what: str) -> Callable[[int, int], None]:
        return lambda done, total: report.progress(at, None, f"{what} {done:,} of {total:,}")

    faults: dict[str, str] | None = {} if session.spec.data.skip_bad else None
    ids = [one for part in parts for one in session.ids[part]]

    def ensure() -> tuple[bool, dict[str, str] | None]:
        tell = telling("preparing images")
        return session.cache.ensure(ids, tell, report.stop_requested, faults), faults

    done, found = session.ranks.in_turn(ensure)
    if not done:
        raise Stopped
    session.leave_out(found or {})
    if isinstance(session.feed, PrefixFeed):
        session.parallel.eval()
        taught = session.ids["train"] if "train" in parts else []
        others = [one for part in parts if part != "train" for one in session.ids[part]]
        tell = telling("computing the frozen part")
        if not session.feed.prepare(taught, others, tell, report.stop_requested, report.log):
            raise Stopped


def _score(session: Session, split: str) -> dict[str, Any]:
    """Predict one split, write the predictions, and give their AUROC."""
    ids = session.ids[split]
    phase = "testing" if split == "test" else "validating the best epoch"

    def progress(done: int, total: int) -> None:
        session.report.progress(TRAINED + (1 - TRAINED) * done / total, None, phase)

    labels = session.dataset.labels(ids)
    known = session.best_logits if split == "val" else None
    logits = validation.predict(session, ids, progress) if known is None else known
    probabilities = np.asarray(expit(logits), np.float32)
    if session.ranks.main:
        _write_predictions(session, split, labels, probabilities)
    each = stats.per_finding(labels, probabilities)
    return {
        "auroc": _number(stats.macro(each)),
        "per_finding": dict(
            zip(session.dataset.findings, map(_number, each.tolist()), strict=True)
        ),
        "studies": len(ids),
    }


def _set_rate(session: Session, epoch: float) -> float:
    train = session.spec.train
    assert train.lr is not None
    assert train.warmup_epochs is not None
    rate = learning_rate(
        epoch,
        lr=train.lr,
        min_lr=min(train.min_lr, train.lr),
        warmup_epochs=train.warmup_epochs,
        epochs=train.epochs,
    )
    for group in session.optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    return rate


def _record_loss(session: Session, rate: float, batches: int) -> None:
    loss = float(torch.stack(session.losses).mean())
    session.losses.clear()
    if not math.isfinite(loss):
        raise not_finite(session, "training loss")
    position = session.position
    epoch = position.epoch + position.batch / batches
    session.record("train/loss", loss, epoch)
    session.record("train/lr", rate, epoch)


def _tell_progress(session: Session, batches: int) -> None:
    position = session.position
    now = f"epoch {min(position.epoch + 1, session.spec.train.epochs)}"
    session.report.progress(
        *session.progress(batches), f"training, {now} of {session.spec.train.epochs}"
    )


def _write_predictions(
    session: Session,
    split: str,
    labels: NDArray[np.float32],
    probabilities: NDArray[np.float32],
) -> None:
    buffer, ids = io.BytesIO(), session.ids[split]
    table = session.dataset.table.loc[ids]
    np.savez_compressed(
        buffer,
        ids=np.array(ids),
        patients=table["patient"].astype(str).to_numpy(dtype="U"),
        sex=table["sex"].astype(str).to_numpy(dtype="U"),
        age=table["age"].to_numpy(dtype=np.float32, na_value=np.nan),
        view=table["view"].astype(str).to_numpy(dtype="U"),
        findings=np.array(session.dataset.findings),
        labels=labels,
        scores=probabilities,
    )
    (session.folder / "predictions").mkdir(exist_ok=True)
    write_atomically(session.folder / "predictions" / f"{split}.npz", buffer.getvalue())


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _measure(session: Session, cache: Path) -> None:
    """Note how fast this machine is, for what the next run is told to cost; once a workspace."""
    gpu = session.accelerator.device.type == "cuda"
    chosen = precision.chosen(session.spec.train.precision, gpu=gpu)
    speed.operations_per_second(cache, chosen, gpu=gpu)


@contextlib.contextmanager
def _secured(session: Session) -> Iterator[None]:
    """Write a checkpoint where the user stops the run."""
    try:
        yield
    except Stopped:
        raise checkpoint.stopped(session) from None


@contextlib.contextmanager
def memory_explained(spec: RunSpec) -> Iterator[None]:
    """Say in words, and with what to change, that a run needs more memory than there is."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(spec) from error
    except RuntimeError as error:
        if any(words in str(error) for words in ("can't allocate memory", "not enough memory")):
            raise _too_large(spec) from error
        raise


def _too_large(spec: RunSpec) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"There is not enough memory for {spec.model.backbone} with batches of "
        f"{spec.train.batch_size}.",
        "Lower the batch size, choose LoRA or linear, or a smaller backbone.",
        field="train.batch_size",
    )
