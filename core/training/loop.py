"""The training loop, the same for every tuning method: setup → fit → validate → predict.

LoRA, full fine-tuning and the linear probe differ only in the parameters that train, so that a
comparison of methods compares nothing else. The recipe is that of the paper (arXiv 2401.12215).
Methods in closed form are fitted once instead (see ``core.training.closed_form``).
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
from core.hardware.distributed import explain_lost_process
from core.models.tuning.registry import tuning_method
from core.reporter import Reporter
from core.training import checkpoint, validation
from core.training.batches import batches, micro_batch_slices, prefetched, step_seed
from core.training.checkpoint import saved_on_stop
from core.training.closed_form.fit import fit_closed_form
from core.training.loss import (
    CROSS_ENTROPY,
    TrainingLoss,
    balanced_weights,
    known_labels,
    not_finite,
)
from core.training.memory_errors import explain_out_of_memory
from core.training.prepare import prepare
from core.training.result import finish, measure_speed
from core.training.schedule import learning_rate
from core.training.session import Session
from core.training.setup import setup
from core.workspace import SPEC, SUBSET

CHECKPOINT_SECONDS = 120.0
"""Time between two checkpoints within an epoch."""
POINTS_PER_CURVE = 500
"""Approximate number of values of the training loss that a run records."""


def fine_tune(
    spec: RunSpec, folder: Path, cache: Path, report: Reporter, *, resume: bool = False
) -> dict[str, Any]:
    """Run one training run, from opening the data set to the test AUROC.

    Args:
        spec: The run.
        folder: The run's folder, for weights, predictions and checkpoints.
        cache: Folder of decoded images, shared between runs.
        report: Receives metrics and progress, and says whether to stop.
        resume: Continue from the last checkpoint in the folder, if there is one.

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
    resolved = spec.resolved()
    with explain_lost_process(), explain_out_of_memory(resolved):
        session = setup(resolved, folder, cache, report)
        result = train(session, resume=resume)
    measure_speed(session, cache)
    return result


def train(session: Session, *, resume: bool = False) -> dict[str, Any]:
    """Train and evaluate a run that is set up; arguments, result and errors as ``fine_tune``."""
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
    """Train to the last epoch, validate after each epoch and keep the best weights."""
    spec, position = session.spec, session.position
    prepare(session, "train", "val")
    if tuning_method(spec.adapter.method).closed_form:
        fit_closed_form(session)
        return
    ids = session.ids["train"]
    session.started = time.monotonic()  # decoding does not count: it would distort the time left
    targets = subsets.labels(session.dataset, ids, spec.data)
    labels = dict(zip(ids, targets, strict=True))
    balanced = spec.train.class_weight == "balanced"
    criterion = TrainingLoss(spec.train.loss, balanced_weights(targets) if balanced else None)
    budget = validation.budget(session)
    while position.unvalidated or position.epoch < spec.train.epochs:
        if not position.unvalidated:
            train_epoch(session, labels, criterion)
        with saved_on_stop(session):
            validation.validate(session, budget)
        position.unvalidated = False
        checkpoint.save(session)
    validation.clear(session)


def train_epoch(
    session: Session,
    labels: dict[str, NDArray[np.float32]],
    criterion: TrainingLoss = CROSS_ENTROPY,
) -> None:
    """Train to the end of the current epoch, with checkpoints every ``CHECKPOINT_SECONDS``."""
    train, position = session.spec.train, session.position
    epoch = batches(session.ids["train"], train.batch_size, train.seed, position.epoch)
    interval = max(1, train.epochs * len(epoch) // POINTS_PER_CURVE)
    started = last_saved = time.monotonic()
    seen = 0

    def load(i: int) -> Tensor:
        seed = step_seed(train.seed, position.epoch, i)
        generator = torch.Generator().manual_seed(seed)
        local = session.processes.part(len(epoch[i]))
        inputs = session.inputs.training(epoch[i], generator, local, position.epoch)
        return inputs.pin_memory() if session.accelerator.device.type == "cuda" else inputs

    for i, inputs in prefetched(load, position.batch, len(epoch)):
        rate = _set_rate(session, position.epoch + i / len(epoch))
        targets = torch.from_numpy(np.stack([labels[study] for study in epoch[i]]))
        session.losses.append(training_step(session, inputs, targets, i, criterion))
        seen += len(epoch[i])
        position.batch, position.step = i + 1, position.step + 1
        last = position.batch == len(epoch)
        if last or position.step % interval == 0:
            _report_progress(session, len(epoch))
            _record_loss(session, rate, len(epoch))
        stop = session.stop_requested()
        # After the last batch, ``fit`` validates and saves instead.
        if not last and (stop or time.monotonic() - last_saved > CHECKPOINT_SECONDS):
            if stop:
                raise checkpoint.stopped(session)
            checkpoint.save(session)
            last_saved = time.monotonic()
    position.epoch, position.batch, position.unvalidated = position.epoch + 1, 0, True
    session.record("train/images_per_s", seen / max(time.monotonic() - started, 1e-9))


def training_step(
    session: Session,
    inputs: Tensor,
    targets: Tensor,
    batch: int,
    criterion: TrainingLoss = CROSS_ENTROPY,
) -> Tensor:
    """One optimizer step, accumulated over the batch's micro-batches.

    Args:
        session: The run.
        inputs: Inputs of this process's part of the batch, on the host.
        targets: Labels of the whole batch, of shape (studies, findings): 1, 0, or NaN where not
            known.
        batch: Number of the batch in its epoch, from 0.
        criterion: The loss.

    Returns:
        The loss of the whole batch before the step, a scalar on the device, without the tuning
        method's own penalty.
    """
    # Dropout and stochastic depth draw from the global generator. It is seeded at each step, so
    # that a resumed run draws the same numbers without a saved generator state.
    processes, train = session.processes, session.spec.train
    torch.manual_seed(step_seed(train.seed, session.position.epoch, batch) + processes.index)
    session.parallel.train(not tuning_method(session.spec.adapter.method).frozen_backbone)
    device, hook = session.accelerator.device, session.hook
    known, local = known_labels(targets), targets[processes.part(len(targets))]
    # All processes use the same number of micro-batches: each backward pass exchanges gradients,
    # and a process with more of them would wait for ever.
    count = min(session.micro_batches, len(targets) // processes.count)
    total = torch.zeros((), device=device)
    session.optimizer.zero_grad(set_to_none=True)
    for i, part in enumerate(micro_batch_slices(len(local), count)):
        pixels = inputs[part].to(device, non_blocking=True)
        with session.accelerator.autocast():
            logits = session.inputs.forward(session.parallel, pixels)
        expected = local[part].to(device, non_blocking=True)
        # The loss is divided by the known labels of the whole batch. Gradients are averaged over
        # the processes, so that each one's share is multiplied by their number.
        loss = criterion(logits.float(), expected, known) * processes.count
        total += loss.detach()
        last = i + 1 == count
        session.accelerator.backward(loss + hook.penalty() if hook and last else loss)
    session.optimizer.step()
    if hook is not None:
        hook.after_step(session.position.step + 1)
    return processes.mean(total)


def _set_rate(session: Session, epoch: float) -> float:
    train = session.spec.train
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


def _report_progress(session: Session, batches: int) -> None:
    epochs = session.spec.train.epochs
    phase = f"training, epoch {min(session.position.epoch + 1, epochs)} of {epochs}"
    session.report.progress(*session.progress(batches), phase)
