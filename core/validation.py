"""How good a run is so far: its validation split predicted and scored, and the best epoch kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from core import checkpoint, stats
from core.feed import EVALUATION_BATCH, chunks, one_ahead
from core.loss import masked_loss, not_finite
from core.models import adapters
from core.session import Session
from core.trained import write_state
from core.workspace import BEST


def validate(session: Session) -> None:
    """Score the validation split; keep the weights if they are the best so far."""
    position, report = session.position, session.report
    report.progress(*session.progress(), "validating")
    ids = session.ids["val"]
    labels = session.dataset.labels(ids)
    logits = predict(session, ids)
    loss = float(masked_loss(torch.tensor(logits), torch.tensor(labels)))
    if not math.isfinite(loss):
        raise not_finite(session, "validation loss")
    each = stats.per_finding(labels, logits)
    auroc = stats.macro(each)
    session.record("val/loss", loss)
    for finding, value in zip(session.dataset.findings, each, strict=True):
        if not math.isnan(value):
            session.record(f"val/auroc/{finding}", float(value))
    session.record("val/auroc", auroc)
    position.last_auroc = auroc
    if position.best_auroc is None or auroc > position.best_auroc:
        position.best_auroc, position.best_epoch = auroc, position.epoch
        session.best_logits = logits
        if session.ranks.main:
            _keep_weights(session)


def _keep_weights(session: Session) -> None:
    write_state(
        session.folder / BEST,
        adapters.trainable_state(session.model),
        {
            "findings": json.dumps(session.dataset.findings),
            "backbone": session.weights.backbone,
            "backbone_sha256": session.weights.sha256 or "",
            "epoch": str(session.position.epoch),
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
    ranks = session.ranks
    # Each process predicts its part of every chunk, so that all ask equally often whether to stop.
    parts = [one[ranks.part(len(one))] for one in chunks(ids, EVALUATION_BATCH * ranks.count)]
    found: list[NDArray[np.float32]] = []
    for i, inputs in one_ahead(lambda i: session.feed.evaluation(parts[i]), 0, len(parts)):
        if session.stop_requested():
            raise checkpoint.stopped(session)
        if progress is not None:
            progress(min(len(ids), i * EVALUATION_BATCH * ranks.count), len(ids))
        with torch.inference_mode(), session.accelerator.autocast():
            logits = session.feed.forward(session.parallel, inputs.to(session.accelerator.device))
        found.append(logits.float().cpu().numpy())
    each = ranks.gather(found)
    return np.concatenate([one for chunk in zip(*each, strict=True) for one in chunk])
