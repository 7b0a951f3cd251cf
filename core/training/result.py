"""End of a run: predictions of the best epoch, scores and measurements."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from scipy.special import expit

from core.classifier.weights import digest, read_state
from core.data import splits
from core.evaluation.predictions import Predictions, write_predictions
from core.files import write_atomically
from core.hardware import available_memory, precision
from core.metrics.auroc import macro, per_finding
from core.models.tuning.apply import load_trainable_state
from core.resources import memory, throughput
from core.training import validation
from core.training.checkpoint import saved_on_stop
from core.training.prepare import prepare
from core.training.session import TRAINED, Session
from core.workspace import BEST, RESULT

MIN_MEASURED_SECONDS = 10.0
"""Seconds of epochs up to which a run does not measure the speed: that takes half a second."""


def finish(session: Session) -> dict[str, Any]:
    """Load the best epoch's weights, predict validation and test, write and return the result."""
    report, position, weights = session.report, session.position, session.weights
    state, _ = session.processes.from_main(lambda: read_state(session.folder / BEST))
    load_trainable_state(session.model, state)
    if session.ids["test"]:
        prepare(session, "test", at=TRAINED)
    if not session.ids["test"]:  # none from the start, or all unreadable
        report.log("The data set has no test split; there is no test AUROC.")
    with saved_on_stop(session):
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
        "peak_host_bytes": available_memory.peak(),
        "predicted_bytes": memory.predict_memory(session.spec, len(session.dataset.findings)),
    }
    if session.processes.main:
        write_atomically(session.folder / RESULT, json.dumps(result, indent=2).encode())
    report.progress(1.0, 0.0, "done")
    return result


def measure_speed(session: Session, cache: Path) -> None:
    """Measure this machine's speed for later estimates, once per workspace, not in short runs."""
    if not session.processes.main or session.elapsed() <= MIN_MEASURED_SECONDS:
        return
    gpu = session.accelerator.device.type == "cuda"
    chosen = precision.resolve_precision(session.spec.train.precision, gpu=gpu)
    throughput.operations_per_second(cache, chosen, gpu=gpu)


def _score(session: Session, split: str) -> dict[str, Any]:
    """Predict one split, write the predictions and return their scores."""
    ids = session.ids[split]
    phase = "testing" if split == "test" else "validating the best epoch"

    def progress(done: int, total: int) -> None:
        session.report.progress(TRAINED + (1 - TRAINED) * done / total, None, phase)

    labels = session.dataset.labels(ids)
    # The logits of the best epoch are known if it was validated in this attempt.
    logits = session.best_logits if split == "val" else None
    if logits is None:
        logits = validation.predict(session, ids, progress)
    probabilities = np.asarray(expit(logits), np.float32)
    if session.processes.main:
        _write_predictions(session, split, labels, probabilities)
    each = per_finding(labels, probabilities)
    return {
        "auroc": _number(macro(each)),
        "per_finding": dict(
            zip(session.dataset.findings, map(_number, each.tolist()), strict=True)
        ),
        "studies": len(ids),
    }


def _write_predictions(
    session: Session, split: str, labels: NDArray[np.float32], probabilities: NDArray[np.float32]
) -> None:
    ids = session.ids[split]
    table = session.dataset.table.loc[ids]
    predictions = Predictions(
        ids=np.array(ids),
        patients=table["patient"].astype(str).to_numpy(dtype="U"),
        findings=session.dataset.findings,
        labels=labels,
        scores=probabilities,
        sex=table["sex"].astype(str).to_numpy(dtype="U"),
        age=table["age"].to_numpy(dtype=np.float32, na_value=np.nan),
        view=table["view"].astype(str).to_numpy(dtype="U"),
    )
    write_predictions(session.folder, split, predictions)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
