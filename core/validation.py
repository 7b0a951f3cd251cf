"""How good a run is so far: its validation split predicted and scored, and the best epoch kept.

Every epoch on the whole split is the paper's way. By budget (``core.allowance``), a fixed part of
the split is scored instead, and at the end of each stretch of epochs the one of them that is best
on the part is scored on the whole split. The best of these is the run's result, so that the AUROC
an epoch is chosen by is always the whole split's.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from core import allowance, stats
from core.allowance import Rounds
from core.data import splits
from core.errors import Stopped
from core.feed import EVALUATION_BATCH, chunks, one_ahead
from core.frozen import PrefixFeed
from core.loss import masked_loss, not_finite
from core.models import adapters
from core.session import Session
from core.trained import read_state, write_state
from core.workspace import BEST

CANDIDATE = "candidate.safetensors"
"""File in a run's folder: the weights of the stretch's best epoch so far, by the part."""


@dataclass(frozen=True)
class Budget:
    """What is validated where the whole split cannot be after each epoch.

    Attributes:
        rounds: When a part is scored, and when the whole split.
        part: Studies of the part, always the same; empty if none is scored.
    """

    rounds: Rounds
    part: list[str]


@dataclass(frozen=True)
class _Scores:
    """What one prediction of an epoch gave; ``curve`` is ``val`` or ``val-part``."""

    curve: str
    epoch: int
    logits: NDArray[np.float32]
    loss: float
    each: stats.Floats

    @property
    def auroc(self) -> float:
        return stats.macro(self.each)


def budget(session: Session) -> Budget | None:
    """The budget of a run, which its specification and its studies decide alone.

    Returns:
        The budget; None if the whole split is scored after each epoch, since the run shall, or can
        afford it.
    """
    spec, ids = session.spec, session.ids["val"]
    if spec.train.validation != "budget" or spec.adapter.imported is not None:
        return None
    if isinstance(session.feed, PrefixFeed) and session.feed.head_alone:
        return None
    rounds = allowance.rounds(
        images=len(session.ids["train"]),
        epochs=spec.train.epochs,
        validation=len(ids),
        share=spec.train.validation_share,
        method=spec.adapter.method,
    )
    if rounds is None:
        return None
    part = _part(session, rounds.part)
    if rounds.part and not part:
        return None
    words = f"the whole validation split {rounds.full} times"
    if part:
        when = f"every {rounds.every} epochs" if rounds.every > 1 else "each epoch"
        words = f"{len(part):,} of {len(ids):,} validation studies after {when}, and {words}"
    session.report.log(f"Scores {words}.")
    return Budget(rounds, part)


def validate(session: Session, budget: Budget | None = None) -> None:
    """Score the epoch that has just ended, or the best of its stretch; keep it if it is the best.

    Nothing of the run's state changes before all is predicted: a run that is stopped meanwhile
    validates from the beginning.

    Args:
        session: The run.
        budget: Its budget; by default the whole split is scored.

    Raises:
        Stopped: The user asked for it.
    """
    position = session.position
    epoch, epochs = position.epoch, session.spec.train.epochs
    ends = budget is None or epoch in budget.rounds.ends(epochs)
    part = budget.part if budget and (ends or epoch % budget.rounds.every == 0) else []
    if not (ends or part):
        return
    session.report.progress(*session.progress(), "validating")
    found, candidate, level = [], position.candidate, position.candidate_auroc
    if part:
        found.append(_scored(session, "val-part", epoch, part))
        auroc = found[-1].auroc
        if not candidate or auroc > level:
            candidate, level = epoch, -math.inf if math.isnan(auroc) else auroc
    if ends:
        chosen = candidate or epoch
        with _weights_of(session, chosen):
            found.append(_scored(session, "val", chosen, session.ids["val"]))
            _keep_best(session, found[-1])
    elif candidate == epoch:
        _write(session, CANDIDATE, epoch)
        if position.best_auroc is None:  # what a run leaves that is stopped for good
            _write(session, BEST, epoch)
    for scores in found:
        _record(session, scores)
    position.candidate, position.candidate_auroc = (0, 0.0) if ends else (candidate, level)


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
            raise Stopped
        if progress is not None:
            progress(min(len(ids), i * EVALUATION_BATCH * ranks.count), len(ids))
        with torch.inference_mode(), session.accelerator.autocast():
            logits = session.feed.forward(session.parallel, inputs.to(session.accelerator.device))
        found.append(logits.float().cpu().numpy())
    each = ranks.gather(found)
    return np.concatenate([one for chunk in zip(*each, strict=True) for one in chunk])


def _part(session: Session, count: int) -> list[str]:
    """Studies of the part; none if no finding has both labels in one of this size."""
    ids = session.ids["val"]
    labels = session.dataset.labels(ids)
    patients = session.dataset.table.loc[ids, "patient"].astype(str).tolist()
    chosen = splits.part(patients, labels, count, f"validation {session.spec.train.seed}")
    found = labels[chosen]
    tells = not np.isnan(stats.per_finding(found, found)).all()
    return [one for one, inside in zip(ids, chosen, strict=True) if inside and tells]


def _scored(session: Session, curve: str, epoch: int, ids: Sequence[str]) -> _Scores:
    """Predict studies by the model as it is."""
    logits, labels = predict(session, ids), session.dataset.labels(ids)
    loss = float(masked_loss(torch.tensor(logits), torch.tensor(labels)))
    if not math.isfinite(loss):
        raise not_finite(session, "validation loss")
    return _Scores(curve, epoch, logits, loss, stats.per_finding(labels, logits))


def _record(session: Session, scores: _Scores) -> None:
    curve, epoch = scores.curve, scores.epoch
    session.record(f"{curve}/loss", scores.loss, epoch)
    for finding, value in zip(session.dataset.findings, scores.each, strict=True):
        if not math.isnan(value):
            session.record(f"{curve}/auroc/{finding}", float(value), epoch)
    session.record(f"{curve}/auroc", scores.auroc, epoch)


def _keep_best(session: Session, scores: _Scores) -> None:
    """Keep the model as it is if it scores best so far on the whole split."""
    position = session.position
    position.last_auroc = scores.auroc
    if position.best_auroc is None or scores.auroc > position.best_auroc:
        position.best_auroc, position.best_epoch = scores.auroc, scores.epoch
        session.best_logits = scores.logits
        _write(session, BEST, scores.epoch)


@contextlib.contextmanager
def _weights_of(session: Session, epoch: int) -> Iterator[None]:
    """Give the model the candidate's weights for a while, unless it has them."""
    if epoch == session.position.epoch:
        yield
        return
    present = adapters.trainable_state(session.model)
    state, _ = session.ranks.from_main(lambda: read_state(session.folder / CANDIDATE))
    adapters.load_trainable_state(session.model, state)
    try:
        yield
    finally:
        adapters.load_trainable_state(session.model, present)


def _write(session: Session, name: str, epoch: int) -> None:
    if not session.ranks.main:
        return
    about = {
        "findings": json.dumps(session.dataset.findings),
        "backbone": session.weights.backbone,
        "backbone_sha256": session.weights.sha256 or "",
        "epoch": str(epoch),
    }
    write_state(session.folder / name, adapters.trainable_state(session.model), about)
