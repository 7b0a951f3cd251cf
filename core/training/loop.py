"""One loop for every method: setup → fit → validate → predict.

LoRA, full fine-tuning and the linear probe differ only in which parameters train, so that a
comparison between them compares nothing else. The recipe is the study's (arXiv 2401.12215).
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.config.run import RunSpec
from core.data import splits, subsets
from core.files import write_atomically
from core.hardware.distributed import others_explained
from core.reporter import Reporter
from core.training import checkpoint, validation
from core.training.batches import batches, one_ahead, pieces_of, step_seed
from core.training.checkpoint import saved_on_stop
from core.training.loss import known_labels, masked_loss, not_finite
from core.training.memory_errors import memory_explained
from core.training.prepare import prepare
from core.training.result import MIN_MEASURED_SECONDS, finish, measure_speed
from core.training.schedule import learning_rate
from core.training.session import Session
from core.training.setup import setup
from core.workspace import SPEC, SUBSET

CHECKPOINT_SECONDS = 120.0
POINTS_A_CURVE = 500


def fine_tune(
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
    with others_explained(), memory_explained(spec):
        session = setup(spec, folder, cache, report)
        result = train(session, resume=resume)
    if session.processes.main and session.elapsed() > MIN_MEASURED_SECONDS:
        measure_speed(session, cache)
    return result


def train(session: Session, *, resume: bool = False) -> dict[str, Any]:
    """The same, once everything is set up."""
    folder = session.folder
    if session.processes.share(resume):
        checkpoint.load(session)
    if session.processes.main:
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
        with saved_on_stop(session):
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
        mine = session.processes.part(len(parts[i]))
        made = session.inputs.training(parts[i], generator, mine, position.epoch)
        return made.pin_memory() if session.accelerator.device.type == "cuda" else made

    for i, inputs in one_ahead(load, position.batch, len(parts)):
        rate = _set_rate(session, position.epoch + i / len(parts))
        targets = torch.from_numpy(np.stack([labels[one] for one in parts[i]]))
        session.losses.append(training_step(session, inputs, targets, i))
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


def training_step(session: Session, inputs: Tensor, targets: Tensor, batch: int) -> Tensor:
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
    place, train = session.processes, session.spec.train
    torch.manual_seed(step_seed(train.seed, session.position.epoch, batch) + place.index)
    session.parallel.train(session.spec.adapter.method != "linear")
    device, beside = session.accelerator.device, session.hook
    known, mine = known_labels(targets), targets[place.part(len(targets))]
    # All processes cut their part alike, or one would wait for gradients that nobody sends.
    pieces = min(session.pieces, len(targets) // place.count)
    total = torch.zeros((), device=device)
    session.optimizer.zero_grad(set_to_none=True)
    for i, piece in enumerate(pieces_of(len(mine), pieces)):
        some = inputs[piece].to(device, non_blocking=True)
        with session.accelerator.autocast():
            logits = session.inputs.forward(session.parallel, some)
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
