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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from core import stats
from core.data import cache as image_cache
from core.data import splits, transforms
from core.data.base import ChestDataset
from core.data.catalogue import open_dataset
from core.errors import ConfigurationError, DataError, NotFiniteError, OutOfMemoryError, Stopped
from core.feed import (
    EVALUATION_BATCH,
    FeatureFeed,
    Feed,
    PixelFeed,
    batches,
    chunks,
    one_ahead,
    step_seed,
)
from core.models import adapters, backbones, catalogue, prefix
from core.reporting import Reporter
from core.spec import RunSpec
from core.trained import BEST, RESULT, digest, read_state, write_atomically, write_state

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 120.0
POINTS_A_CURVE = 500
TRAINED = 0.95
"""Progress at which training is over and the best epoch is tested."""


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


@dataclass
class Position:
    """How far a run is; saved in each checkpoint.

    Attributes:
        epoch: Epochs that are complete.
        batch: Batches of the current epoch that are complete.
        step: Optimizer steps since the start.
        best_auroc: Best validation AUROC so far; None before the first.
        best_epoch: The epoch (from 1) it was reached in.
        last_auroc: Validation AUROC of the last epoch.
        seconds: Time spent so far, over all attempts.
        unvalidated: Whether the last complete epoch still has to be validated.
        metrics: Metric values recorded so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_auroc: float | None = None
    best_epoch: int = 0
    last_auroc: float | None = None
    seconds: float = 0.0
    unvalidated: bool = False
    metrics: int = 0


@dataclass
class Session:
    """What ``setup`` made and the other steps use."""

    spec: RunSpec
    folder: Path
    report: Reporter
    dataset: ChestDataset
    cache: image_cache.ImageCache
    ids: dict[str, list[str]]
    model: nn.Module
    parallel: nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    feed: Feed
    weights: dict[str, Any]
    position: Position = field(default_factory=Position)
    losses: list[Tensor] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        """Seconds of this attempt and those before it."""
        return self.position.seconds + time.monotonic() - self.started

    def record(self, name: str, value: float, epoch: float | None = None) -> None:
        """Report one value of a curve at the present step and count it."""
        position = self.position
        at = float(position.epoch) if epoch is None else epoch
        self.report.metric(name, value, epoch=at, step=position.step)
        position.metrics += 1


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
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "spec.json", spec.model_dump_json(indent=2).encode())
    with _memory_explained(spec):
        session = setup(spec, folder, cache, report)
        if resume:
            _load_checkpoint(session)
        fit(session)
        return finish(session)


def setup(spec: RunSpec, folder: Path, cache: Path, report: Reporter) -> Session:
    """Open the data, cache the pictures, build the model and its optimizer."""
    report.progress(0.0, None, "opening the data set")
    dataset = open_dataset(spec.data.name, spec.data.root, spec.data.split)
    assert spec.data.subset_seed is not None
    train_ids = splits.subset(dataset, spec.data.label_fraction, spec.data.subset_seed)
    ids = {"train": train_ids, "val": dataset.ids("val"), "test": dataset.ids("test")}
    _tell_subset(dataset, train_ids, report)

    report.progress(0.0, None, "building the model")
    card = catalogue.card(spec.model.backbone)
    size = spec.model.input_size or card.input_size
    torch.manual_seed(spec.train.seed)
    model, loaded = backbones.build(
        card,
        len(dataset.findings),
        pretrained=spec.model.pretrained,
        weights=spec.model.weights,
        input_size=spec.model.input_size,
        drop_path=spec.train.drop_path,
    )
    model = adapters.apply(model, spec.adapter)
    report.log(f"{card.title}: {loaded}")

    pictures = image_cache.ImageCache(cache, dataset, transforms.cache_side(size))
    _fill_cache(pictures, ids["train"] + ids["val"], report)
    accelerator = _accelerator(spec)
    train, method = spec.train, spec.adapter.method
    groups = adapters.parameter_groups(
        model, lr=train.lr, weight_decay=train.weight_decay, layer_decay=train.layer_decay
    )
    if train.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=train.lr)
    else:
        optimizer = torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum)
    parallel, optimizer = accelerator.prepare(model, optimizer)

    pixels = PixelFeed(
        pictures,
        transforms.TrainTransform(
            size, card.mean, card.std, card.channels, augmentation=train.augmentation
        ),
        transforms.EvalTransform(size, card.mean, card.std, card.channels, card.eval_resize),
    )
    feed: Feed = pixels
    parts = prefix.split_at_head(model) if train.augmentation == "none" else None
    if method == "linear" and parts is not None:
        model.eval()
        feed = FeatureFeed(pixels, *parts, device=accelerator.device)
    weights = {
        "backbone": card.name,
        "sha256": loaded.sha256,
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total": sum(p.numel() for p in model.parameters()),
    }
    report.log(
        f"Trains {weights['trainable']:,} of {weights['total']:,} parameters "
        f"({weights['trainable'] / weights['total']:.3%}) on {accelerator.device}."
    )
    return Session(
        spec, folder, report, dataset, pictures, ids, model, parallel, optimizer, accelerator, feed,
        weights,
    )  # fmt: skip


def fit(session: Session) -> None:
    """Train to the last epoch, validating after each and keeping the best."""
    spec, position = session.spec, session.position
    train, ids = spec.train, session.ids["train"]
    _prepare_features(session, ids + session.ids["val"])
    labels = dict(zip(ids, session.dataset.labels(ids), strict=True))
    while position.unvalidated or position.epoch < train.epochs:
        if not position.unvalidated:
            train_epoch(session, labels)
        validate(session)
        position.unvalidated = False
        _save_checkpoint(session)


def train_epoch(session: Session, labels: dict[str, NDArray[np.float32]]) -> None:
    """Train to the end of the current epoch, with checkpoints by time on the way."""
    train, position, report = session.spec.train, session.position, session.report
    parts = batches(session.ids["train"], train.batch_size, train.seed, position.epoch)
    every = max(1, train.epochs * len(parts) // POINTS_A_CURVE)
    started = last_saved = time.monotonic()
    seen = 0

    def load(i: int) -> Tensor:
        seed = step_seed(train.seed, position.epoch, i)
        return session.feed.training(parts[i], torch.Generator().manual_seed(seed))

    for i, inputs in one_ahead(load, position.batch, len(parts)):
        rate = _set_rate(session, position.epoch + i / len(parts))
        targets = torch.from_numpy(np.stack([labels[one] for one in parts[i]]))
        session.losses.append(step(session, inputs, targets, i))
        seen += len(inputs)
        position.batch, position.step = i + 1, position.step + 1
        last = position.batch == len(parts)
        if last or position.step % every == 0:
            _record_loss(session, rate, len(parts))
            _tell_progress(session, len(parts))
        stop = report.stop_requested()
        if not last and (stop or time.monotonic() - last_saved > CHECKPOINT_SECONDS):
            _save_checkpoint(session)
            last_saved = time.monotonic()
            if stop:
                raise _stopped(session)
    position.epoch, position.batch, position.unvalidated = position.epoch + 1, 0, True
    session.record("train/images_per_s", seen / max(time.monotonic() - started, 1e-9))


def step(session: Session, inputs: Tensor, targets: Tensor, batch: int) -> Tensor:
    """One optimizer step.

    Args:
        session: The run.
        inputs: What the feed made, on the host.
        targets: Labels of shape (studies, findings): 1, 0, or NaN where not known.
        batch: Number of the batch in its epoch.

    Returns:
        The loss before the step, a scalar on the device.
    """
    # Dropout and stochastic depth draw from the global generator: seeded at each step, they do not
    # depend on what was computed before.
    torch.manual_seed(step_seed(session.spec.train.seed, session.position.epoch, batch))
    session.parallel.train(session.spec.adapter.method != "linear")
    device = session.accelerator.device
    with session.accelerator.autocast():
        logits = session.feed.forward(session.parallel, inputs.to(device, non_blocking=True))
    loss = masked_loss(logits.float(), targets.to(device, non_blocking=True))
    session.optimizer.zero_grad(set_to_none=True)
    session.accelerator.backward(loss)
    session.optimizer.step()
    return loss.detach()


def masked_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over the labels that are known.

    Args:
        logits: Shape (studies, findings).
        targets: Same shape: 1, 0, or NaN where not known.

    Returns:
        A scalar; 0 if no label is known.
    """
    known = ~torch.isnan(targets)
    each = binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def validate(session: Session) -> None:
    """Score the validation split; keep the weights if they are the best so far."""
    position, report = session.position, session.report
    report.progress(*_progress(session), "validating")
    ids = session.ids["val"]
    labels = session.dataset.labels(ids)
    logits = predict(session, ids)
    loss = float(masked_loss(torch.from_numpy(logits), torch.from_numpy(labels)))
    if not math.isfinite(loss):
        raise _not_finite(session, "validation loss")
    each = stats.per_finding(labels, logits)
    auroc = stats.macro(each)
    session.record("val/loss", loss)
    for finding, value in zip(session.dataset.findings, each, strict=True):
        if not math.isnan(value):
            session.record(f"val/auroc/{finding}", float(value))
    if math.isnan(auroc):
        raise DataError(
            "No finding has both positive and negative studies in the validation split, so that no "
            "epoch can be chosen.",
            "Add studies to the validation split or choose another split.",
        )
    session.record("val/auroc", auroc)
    position.last_auroc = auroc
    if position.best_auroc is None or auroc > position.best_auroc:
        position.best_auroc, position.best_epoch = auroc, position.epoch
        write_state(
            session.folder / BEST,
            adapters.trainable_state(session.model),
            {
                "findings": json.dumps(session.dataset.findings),
                "backbone": session.weights["backbone"],
                "backbone_sha256": session.weights["sha256"] or "",
                "epoch": str(position.epoch),
            },
        )


def predict(
    session: Session, ids: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """Logits of shape (studies, findings), in the order of ``ids``.

    Raises:
        Stopped: The user asked for it between two batches.
    """
    session.parallel.eval()
    parts = list(chunks(ids, EVALUATION_BATCH))
    found = []
    for i, inputs in one_ahead(lambda i: session.feed.evaluation(parts[i]), 0, len(parts)):
        if session.report.stop_requested():
            _save_checkpoint(session)
            raise _stopped(session)
        if progress is not None:
            progress(i * EVALUATION_BATCH, len(ids))
        with torch.inference_mode(), session.accelerator.autocast():
            logits = session.feed.forward(session.parallel, inputs.to(session.accelerator.device))
        found.append(logits.float().cpu().numpy())
    return np.concatenate(found)


def finish(session: Session) -> dict[str, Any]:
    """Load the best epoch's weights, predict validation and test, write and return the result."""
    report, position = session.report, session.position
    if not session.ids["test"]:
        report.log("The data set has no test split; there is no test AUROC.")
    _fill_cache(session.cache, session.ids["test"], report, at=TRAINED)
    adapters.load_trainable_state(session.model, read_state(session.folder / BEST)[0])
    scores = {}
    for split in ("val", "test"):
        if not (ids := session.ids[split]):
            continue

        def progress(done: int, total: int, split: str = split) -> None:
            name = "testing" if split == "test" else "validating the best epoch"
            report.progress(TRAINED + (1 - TRAINED) * done / total, None, name)

        _prepare_features(session, ids, at=TRAINED)
        labels = session.dataset.labels(ids)
        probabilities = 1.0 / (1.0 + np.exp(-predict(session, ids, progress)))
        _write_predictions(session, split, ids, labels, probabilities)
        each = stats.per_finding(labels, probabilities)
        scores[split] = {
            "auroc": _number(stats.macro(each)),
            "per_finding": dict(
                zip(session.dataset.findings, map(_number, each.tolist()), strict=True)
            ),
            "studies": len(ids),
        }
    state, _ = read_state(session.folder / BEST)
    memory = psutil.Process().memory_info().rss
    on_gpu = session.accelerator.device.type == "cuda"
    result = {
        "scores": scores,
        "findings": list(session.dataset.findings),
        "split": session.dataset.split_name,
        "images": len(session.ids["train"]),
        "positives": splits.positives(session.dataset, session.ids["train"]),
        "trainable": session.weights["trainable"],
        "total": session.weights["total"],
        "best_auroc": position.best_auroc,
        "best_epoch": position.best_epoch,
        "last_auroc": position.last_auroc,
        "steps": position.step,
        "seconds": round(session.elapsed(), 2),
        "weights_sha256": digest(state),
        "backbone_sha256": session.weights["sha256"],
        "device": str(session.accelerator.device),
        "peak_device_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "host_bytes": memory,
    }
    write_atomically(session.folder / RESULT, json.dumps(result, indent=2).encode())
    report.progress(1.0, 0.0, "done")
    return result


def _accelerator(spec: RunSpec) -> Accelerator:
    wanted = spec.train.device
    gpu = torch.cuda.is_available() and wanted != "cpu"
    if wanted.startswith("cuda") and not gpu:
        raise ConfigurationError(
            f"There is no CUDA device on this machine, but the run asks for {wanted}.",
            "Choose the device auto or cpu.",
            field="train.device",
        )
    if gpu and ":" in wanted:
        torch.cuda.set_device(int(wanted.split(":")[1]))
    precision = {"fp32": "no", "auto": "no"}.get(spec.train.precision, spec.train.precision)
    if spec.train.precision == "auto" and gpu:
        precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    # accelerate keeps its state for the whole process; several runs of one notebook may differ.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return Accelerator(cpu=not gpu, mixed_precision=precision)


def _tell_subset(dataset: ChestDataset, ids: Sequence[str], report: Reporter) -> None:
    if not ids:
        raise DataError(
            f"{dataset.title} has no training studies in the split “{dataset.split_name}”.",
            "Choose another split or check the data set.",
            field="data.root",
        )
    counts = splits.positives(dataset, ids)
    report.log(f"{dataset.title}, split {dataset.split_name}: {len(ids):,} training images.")
    report.log("Positives: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    empty = [name for name, count in counts.items() if count == 0]
    if len(empty) == len(counts):
        raise DataError(
            f"None of the {len(ids)} labelled images is positive for any finding.",
            "Raise the label fraction.",
            field="data.label_fraction",
        )
    if empty:
        report.log(f"No positive image in this subset: {', '.join(empty)}; nothing is learnt.")


def _fill_cache(
    pictures: image_cache.ImageCache, ids: Sequence[str], report: Reporter, at: float = 0.0
) -> None:
    def progress(done: int, total: int) -> None:
        report.progress(at, None, f"preparing images {done:,} of {total:,}")

    if not pictures.ensure(ids, progress=progress, should_stop=report.stop_requested):
        raise Stopped


def _prepare_features(session: Session, ids: Sequence[str], at: float = 0.0) -> None:
    if isinstance(session.feed, FeatureFeed):
        report = session.report

        def progress(done: int, total: int) -> None:
            report.progress(at, None, f"computing features {done:,} of {total:,}")

        session.parallel.eval()
        if not session.feed.prepare(ids, progress, report.stop_requested):
            raise Stopped


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
        raise _not_finite(session, "training loss")
    position = session.position
    epoch = position.epoch + position.batch / batches
    session.record("train/loss", loss, epoch)
    session.record("train/lr", rate, epoch)


def _not_finite(session: Session, what: str) -> NotFiniteError:
    return NotFiniteError(
        f"The {what} is not finite at step {session.position.step}.",
        f"Lower the learning rate (now {session.spec.train.lr:g}) or train in fp32.",
        field="train.lr",
    )


def _progress(session: Session, batches: int = 1) -> tuple[float, float | None]:
    position, epochs = session.position, session.spec.train.epochs
    done = (position.epoch + position.batch / batches) / epochs
    spent = session.elapsed()
    left = spent * (1 - done) / done if done > 0 else None
    return TRAINED * done, left


def _tell_progress(session: Session, batches: int) -> None:
    position = session.position
    now = f"epoch {min(position.epoch + 1, session.spec.train.epochs)}"
    session.report.progress(
        *_progress(session, batches), f"training, {now} of {session.spec.train.epochs}"
    )


def _stopped(session: Session) -> Stopped:
    session.report.log(f"Stopped at step {session.position.step}; the run can be resumed.")
    return Stopped()


def _save_checkpoint(session: Session) -> None:
    saved = asdict(session.position) | {"seconds": session.elapsed()}
    scaler = session.accelerator.scaler
    payload = {
        "fingerprint": session.spec.fingerprint(),
        "position": saved,
        "trains": adapters.trainable_state(session.model),
        "optimizer": session.optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "losses": torch.stack(session.losses).cpu() if session.losses else None,
    }
    write_atomically(session.folder / CHECKPOINT, payload)


def _load_checkpoint(session: Session) -> None:
    path = session.folder / CHECKPOINT
    if not path.exists():
        session.report.log("There is no checkpoint yet; starting from the beginning.")
        session.report.rewind(0)
        return
    payload = torch.load(path, map_location="cpu", weights_only=True)
    if payload["fingerprint"] != session.spec.fingerprint():
        raise DataError(
            f"The checkpoint in {path.parent} belongs to another specification.",
            "Start a new run instead of resuming this one.",
        )
    session.position = Position(**payload["position"])
    session.started = time.monotonic()
    adapters.load_trainable_state(session.model, payload["trains"])
    session.optimizer.load_state_dict(payload["optimizer"])
    if session.accelerator.scaler is not None and payload["scaler"]:
        session.accelerator.scaler.load_state_dict(payload["scaler"])
    if payload["losses"] is not None:
        session.losses = list(payload["losses"].to(session.accelerator.device))
    session.report.rewind(session.position.metrics)
    session.report.log(
        f"Resumed after {session.position.epoch} epochs and {session.position.batch} batches."
    )


def _write_predictions(
    session: Session,
    split: str,
    ids: Sequence[str],
    labels: NDArray[np.float32],
    probabilities: NDArray[np.float32],
) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        ids=np.array(ids),
        patients=session.dataset.table.loc[list(ids), "patient"].astype(str).to_numpy(dtype="U"),
        findings=np.array(session.dataset.findings),
        labels=labels,
        scores=probabilities.astype(np.float32),
    )
    (session.folder / "predictions").mkdir(exist_ok=True)
    write_atomically(session.folder / "predictions" / f"{split}.npz", buffer.getvalue())


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


@contextlib.contextmanager
def _memory_explained(spec: RunSpec) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(spec) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise _too_large(spec) from error
        raise


def _too_large(spec: RunSpec) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"There is not enough memory for {spec.model.backbone} with batches of "
        f"{spec.train.batch_size}.",
        "Lower the batch size, choose LoRA or linear, or a smaller backbone.",
        field="train.batch_size",
    )
