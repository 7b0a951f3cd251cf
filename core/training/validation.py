"""How good a run is so far: its validation split predicted and scored, and the best epoch kept.

Every epoch on the whole split is the paper's way. By budget
(``core.resources.validation_schedule``), the epochs race: each is scored on a fixed part of the
split, and after the last one the best of them on wider parts and the best of those on the whole, so
that the AUROC an epoch is chosen by is always the whole split's. Until then the weights of those
that may still win are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.classifier.weights import read_state, write_state
from core.config.defaults import EVALUATION_BATCH
from core.data import splits
from core.errors import Stopped
from core.metrics import intervals
from core.metrics.auroc import macro, per_finding
from core.models.tuning.apply import load_trainable_state, trainable_state
from core.resources import validation_schedule
from core.resources.validation_schedule import ValidationRounds
from core.training.batches import chunks, one_ahead
from core.training.cached_features import CachedFeatures
from core.training.loss import masked_loss, not_finite
from core.training.session import Session
from core.workspace import BEST

CANDIDATES = "candidates"
"""Folder in a run's folder: weights of the epochs that lead on the part, until the race ends."""

LOGITS = "logits of the part"
"""Name of a tensor beside these weights, of shape (studies, findings)."""

MOST_KEPT = 2 * 2**30
"""Bytes of such weights; of a large network fewer epochs are kept."""


@dataclass(frozen=True)
class Budget:
    """What is validated where the whole split cannot be after each epoch.

    Attributes:
        rounds: When a part is scored, and how many epochs go on from there.
        part: Studies of the part, always the same.
        more: Studies that each later round but the last has beside those of the round before.
        kept: Epochs that go on from the part: as many as the rounds say, or as can be kept.
    """

    rounds: ValidationRounds
    part: list[str]
    more: list[list[str]]
    kept: int


@dataclass(frozen=True)
class _Scores:
    """What one prediction of an epoch gave; ``curve`` is ``val`` or ``val-part``."""

    curve: str
    epoch: int
    logits: NDArray[np.float32]
    loss: float
    each: intervals.Floats

    @property
    def auroc(self) -> float:
        return macro(self.each)


def budget(session: Session) -> Budget | None:
    """The budget of a run, which its specification and its studies decide alone.

    Candidates that were scored on another part drop out of the race.

    Returns:
        The budget; None if the whole split is scored after each epoch, since the run shall, or can
        afford it.
    """
    spec, ids = session.spec, session.ids["val"]
    if spec.train.validation != "budget" or spec.adapter.imported is not None:
        return None
    if isinstance(session.inputs, CachedFeatures) and session.inputs.head_alone:
        return None
    rounds = validation_schedule.validation_rounds(
        images=len(session.ids["train"]),
        epochs=spec.train.epochs,
        validation=len(ids),
        share=spec.train.validation_share,
        method=spec.adapter.method,
    )
    if rounds is None:
        return None
    part = _part(session, ids, rounds.part)
    if not part:
        return None
    more: list[list[str]] = []
    seen = part
    for one in rounds.middle:
        more.append(_part(session, _without(ids, seen), one.studies - len(seen)))
        seen = [*seen, *more[-1]]
    size = sum(one.nbytes for one in trainable_state(session.model).values())
    found = Budget(rounds, part, more, max(1, min(rounds.kept, MOST_KEPT // max(1, size))))
    session.report.log(_in_words(found, len(ids)))
    position, told = session.position, hashlib.sha256(" ".join(part).encode()).hexdigest()[:16]
    if position.part != told:  # scores on other studies do not compare: some have become unreadable
        position.part, position.candidates = told, {}
    return found


def _in_words(budget: Budget, validation: int) -> str:
    rounds, sizes = budget.rounds, accumulate(map(len, [budget.part, *budget.more]))
    when = f"every {rounds.every} epochs" if rounds.every > 1 else "each epoch"
    then = "".join(
        f"the best {min(budget.kept, one.epochs)} on {size:,}, of those "
        for one, size in zip(rounds.middle, list(sizes)[1:], strict=True)
    )
    best = f"the best {rounds.full}" if rounds.full > 1 else "the best"
    return (
        f"Scores {len(budget.part):,} of {validation:,} validation studies after {when}; at the "
        f"end {then}{best} on the whole split."
    )


def validate(session: Session, budget: Budget | None = None) -> None:
    """Score the epoch that has just ended, and after the last one the best; keep what is best.

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
    if budget is not None and not budget.rounds.scores(epoch, epochs):
        return
    session.report.progress(*session.progress(), "validating")
    if budget is None:
        found = _scored(session, "val", epoch, session.ids["val"])
        _keep_best(session, found)
        _record(session, found)
        return
    found = _scored(session, "val-part", epoch, budget.part)
    leading = _leading({**position.candidates, epoch: found.auroc}, budget.kept)
    if epoch in leading:
        _keep_candidate(session, found, position.candidates)
    finals = _race(session, budget, leading) if epoch == epochs else []
    if finals:
        best = max(finals, key=lambda one: one.auroc)
        with _weights_of(session, best.epoch):
            _keep_best(session, best)
        position.last_auroc = finals[-1].auroc
    for scores in (found, *finals):
        _record(session, scores)
    position.candidates = {} if finals else leading


def clear(session: Session) -> None:
    """Remove the weights of epochs that have not won."""
    if session.processes.main:
        shutil.rmtree(session.folder / CANDIDATES, ignore_errors=True)


def predict(
    session: Session, ids: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """Logits of shape (studies, findings), in the order of ``ids``.

    Raises:
        Stopped: The user asked for it between two batches.
    """
    session.parallel.eval()
    ranks = session.processes
    # Each process predicts its part of every chunk, so that all ask equally often whether to stop.
    parts = [one[ranks.part(len(one))] for one in chunks(ids, EVALUATION_BATCH * ranks.count)]
    found: list[NDArray[np.float32]] = []
    for i, inputs in one_ahead(lambda i: session.inputs.evaluation(parts[i]), 0, len(parts)):
        if session.stop_requested():
            raise Stopped
        if progress is not None:
            progress(min(len(ids), i * EVALUATION_BATCH * ranks.count), len(ids))
        with torch.inference_mode(), session.accelerator.autocast():
            logits = session.inputs.forward(session.parallel, inputs.to(session.accelerator.device))
        found.append(logits.float().cpu().numpy())
    each = ranks.gather(found)
    return np.concatenate([one for chunk in zip(*each, strict=True) for one in chunk])


def _part(session: Session, ids: Sequence[str], count: int) -> list[str]:
    """Some of these studies; none if no finding has both labels among so many."""
    if not count:
        return []
    labels = session.dataset.labels(ids)
    patients = session.dataset.table.loc[list(ids), "patient"].astype(str).tolist()
    chosen = splits.part(patients, labels, count, f"validation {session.spec.train.seed}")
    found = labels[chosen]
    tells = not np.isnan(per_finding(found, found)).all()
    return [one for one, inside in zip(ids, chosen, strict=True) if inside and tells]


def _without(ids: Sequence[str], some: Sequence[str]) -> list[str]:
    left_out = set(some)
    return [one for one in ids if one not in left_out]


def _leading(aurocs: dict[int, float], count: int) -> dict[int, float]:
    """The best epochs of some, in their order; of equals the earlier."""

    def rank(epoch: int) -> tuple[float, int]:
        value = aurocs[epoch]
        return (math.inf if math.isnan(value) else -value), epoch

    best = sorted(aurocs, key=rank)[:count]
    return {epoch: aurocs[epoch] for epoch in sorted(best)}


def _race(session: Session, budget: Budget, leading: dict[int, float]) -> list[_Scores]:
    """Score the epochs that lead on wider and wider parts, and the last ones on the whole split.

    Returns:
        The scores on the whole split, in the order of the epochs.
    """
    ids, asked, seen = session.ids["val"], budget.part, dict[int, NDArray[np.float32]]()
    left = [*(one.epochs for one in budget.rounds.middle), budget.rounds.full][1:]
    for more, count in zip(budget.more, left, strict=True):
        asked = [*asked, *more]
        seen = {epoch: _further(session, epoch, seen, more) for epoch in leading}
        labels = session.dataset.labels(asked)
        aurocs = {one: macro(per_finding(labels, seen[one])) for one in leading}
        leading = _leading(aurocs, count)
    rest = _without(ids, asked)
    row = {one: i for i, one in enumerate([*asked, *rest])}
    order, labels = [row[one] for one in ids], session.dataset.labels(ids)
    whole = {epoch: _further(session, epoch, seen, rest)[order] for epoch in leading}
    return [_scores_of(session, "val", epoch, logits, labels) for epoch, logits in whole.items()]


def _further(
    session: Session, epoch: int, seen: dict[int, NDArray[np.float32]], more: list[str]
) -> NDArray[np.float32]:
    """A candidate's logits of what it was scored on before, the part at least, and of more."""
    with _weights_of(session, epoch) as told:
        before = seen.get(epoch, told)
        return np.concatenate([before, predict(session, more)]) if more else before


def _scored(session: Session, curve: str, epoch: int, ids: Sequence[str]) -> _Scores:
    """Predict studies by the model as it is."""
    logits, labels = predict(session, ids), session.dataset.labels(ids)
    return _scores_of(session, curve, epoch, logits, labels)


def _scores_of(
    session: Session,
    curve: str,
    epoch: int,
    logits: NDArray[np.float32],
    labels: NDArray[np.float32],
) -> _Scores:
    loss = float(masked_loss(torch.tensor(logits), torch.tensor(labels)))
    if not math.isfinite(loss):
        raise not_finite(session, "validation loss")
    return _Scores(curve, epoch, logits, loss, per_finding(labels, logits))


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
        _write(session, session.folder / BEST, scores.epoch)


@contextlib.contextmanager
def _weights_of(session: Session, epoch: int) -> Iterator[NDArray[np.float32]]:
    """Give the model a candidate's weights for a while; yields its logits of the part."""
    present = trainable_state(session.model)
    state, _ = session.processes.from_main(lambda: read_state(_candidate(session, epoch)))
    told = state.pop(LOGITS)
    load_trainable_state(session.model, state)
    try:
        yield told.numpy()
    finally:
        load_trainable_state(session.model, present)


def _keep_candidate(session: Session, scores: _Scores, known: dict[int, float]) -> None:
    """Write the model as it is among those that may win, and drop what is out of the race."""
    if not session.processes.main:
        return
    for file in (session.folder / CANDIDATES).glob("*.safetensors"):
        # Those that the last checkpoint tells of stay until the next is written.
        if file.stem.isdigit() and int(file.stem) not in known:
            file.unlink(missing_ok=True)
    logits = {LOGITS: torch.from_numpy(scores.logits)}
    _write(session, _candidate(session, scores.epoch), scores.epoch, logits)
    if all(scores.auroc > one or math.isnan(one) for one in known.values()):
        _write(session, session.folder / BEST, scores.epoch)  # what a run leaves that is stopped


def _candidate(session: Session, epoch: int) -> Path:
    return session.folder / CANDIDATES / f"{epoch}.safetensors"


def _write(
    session: Session, path: Path, epoch: int, beside: Mapping[str, Tensor] | None = None
) -> None:
    if not session.processes.main:
        return
    about = {
        "findings": json.dumps(session.dataset.findings),
        "backbone": session.weights.backbone,
        "backbone_sha256": session.weights.sha256 or "",
        "epoch": str(epoch),
    }
    path.parent.mkdir(exist_ok=True)
    write_state(path, {**trainable_state(session.model), **(beside or {})}, about)
