"""Validation: predict and score the validation split, and keep the best epoch's weights.

By default the whole split is scored after every epoch, as in the paper. With validation by budget
(``core.resources.validation_schedule``), epochs are selected by successive halving: every epoch is
scored on a fixed part of the split; after the last epoch, the best candidates are scored on larger
parts, and the best of those on the whole split. The AUROC that selects an epoch is therefore always
that of the whole split. Until then the weights of the remaining candidates are stored.
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
from core.training.batches import chunks, prefetched
from core.training.cached_features import CachedFeatures
from core.training.loss import masked_loss, not_finite
from core.training.session import Session
from core.workspace import BEST

CANDIDATES = "candidates"
"""Folder in a run's folder: weights of the best epochs so far, until the final rounds."""

LOGITS = "logits of the part"
"""Name of the tensor of logits in a candidate's file, of shape (studies, findings)."""

MAX_CANDIDATE_BYTES = 2 * 2**30
"""Limit for the weights of all candidates; for a large network fewer epochs are stored."""


@dataclass(frozen=True)
class Budget:
    """Rounds of validation by budget, with their studies.

    Attributes:
        rounds: When the part is scored, and how many candidates each round selects.
        part: Studies of the part, the same for all epochs.
        more: Studies that each middle round adds to those of the round before.
        kept: Candidates that are stored: as many as the rounds select, if they fit in
            ``MAX_CANDIDATE_BYTES``.
    """

    rounds: ValidationRounds
    part: list[str]
    more: list[list[str]]
    kept: int


@dataclass(frozen=True)
class _Scores:
    """Scores of one epoch; ``curve`` is ``val`` or ``val-part``."""

    curve: str
    epoch: int
    logits: NDArray[np.float32]
    loss: float
    each: intervals.Floats

    @property
    def auroc(self) -> float:
        return macro(self.each)


def budget(session: Session) -> Budget | None:
    """The budget of a run, determined by its specification and its studies alone.

    If the part has changed because studies became unreadable, the candidates are dropped: scores
    on different studies cannot be compared.

    Returns:
        The budget; None if the whole split is scored after each epoch.
    """
    spec, ids, position = session.spec, session.ids["val"], session.position
    if spec.train.validation != "budget" or spec.adapter.imported is not None:
        return None
    if isinstance(session.inputs, CachedFeatures) and session.inputs.head_only:
        return None  # with cached features the whole split costs next to nothing
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
    # Each larger part contains the part before, so that a candidate's earlier predictions count.
    more: list[list[str]] = []
    seen = part
    for stage in rounds.middle:
        more.append(_part(session, _without(ids, seen), stage.studies - len(seen)))
        seen = [*seen, *more[-1]]
    size = sum(tensor.nbytes for tensor in trainable_state(session.model).values())
    kept = max(1, min(rounds.kept, MAX_CANDIDATE_BYTES // max(1, size)))
    plan = Budget(rounds, part, more, kept)
    session.report.log(_message(plan, len(ids)))
    digest = hashlib.sha256(" ".join(part).encode()).hexdigest()[:16]
    if position.part != digest:
        position.part, position.candidates = digest, {}
    return plan


def validate(session: Session, budget: Budget | None = None) -> None:
    """Score the epoch that has just ended, after the last one also the best; keep the best weights.

    Without a budget the whole split is scored.

    The run's state changes only after all predictions, so that a run that is stopped meanwhile
    repeats the validation when it resumes.

    Raises:
        Stopped: The user asked for it.
    """
    position = session.position
    epoch, epochs = position.epoch, session.spec.train.epochs
    if budget is not None and not budget.rounds.scores(epoch, epochs):
        return
    session.report.progress(*session.progress(), "validating")
    if budget is None:
        scores = _score(session, "val", epoch, session.ids["val"])
        _keep_best(session, scores)
        _record(session, scores)
        return
    scores = _score(session, "val-part", epoch, budget.part)
    best = _best({**position.candidates, epoch: scores.auroc}, budget.kept)
    if epoch in best:
        _keep_candidate(session, scores, position.candidates)
    finals = _final_rounds(session, budget, best) if epoch == epochs else []
    if finals:
        winner = max(finals, key=lambda final: final.auroc)
        with _weights_of(session, winner.epoch):
            _keep_best(session, winner)
        position.last_auroc = finals[-1].auroc
    for each in (scores, *finals):
        _record(session, each)
    position.candidates = {} if finals else best


def clear(session: Session) -> None:
    """Remove the weights of the candidates."""
    if session.processes.main:
        shutil.rmtree(session.folder / CANDIDATES, ignore_errors=True)


def predict(
    session: Session, ids: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """Predict studies with the current weights.

    Returns:
        Logits of shape (studies, findings), in the order of ``ids``.

    Raises:
        Stopped: The user asked for it between two batches.
    """
    session.parallel.eval()
    processes = session.processes
    size = EVALUATION_BATCH * processes.count
    # Each process predicts its part of every chunk, so that all check equally often whether to
    # stop.
    local = [chunk[processes.part(len(chunk))] for chunk in chunks(ids, size)]
    outputs: list[NDArray[np.float32]] = []
    for i, inputs in prefetched(lambda i: session.inputs.evaluation(local[i]), 0, len(local)):
        if session.stop_requested():
            raise Stopped
        if progress is not None:
            progress(min(len(ids), i * size), len(ids))
        with torch.inference_mode(), session.accelerator.autocast():
            logits = session.inputs.forward(session.parallel, inputs.to(session.accelerator.device))
        outputs.append(logits.float().cpu().numpy())
    # The parts of a chunk lie in the order of the processes.
    gathered = zip(*processes.gather(outputs), strict=True)
    return np.concatenate([part for chunk in gathered for part in chunk])


def _part(session: Session, ids: Sequence[str], count: int) -> list[str]:
    """Draw ``count`` of these studies; none if no finding then has both labels."""
    if not count:
        return []
    labels = session.dataset.labels(ids)
    patients = session.dataset.table.loc[list(ids), "patient"].astype(str).tolist()
    chosen = splits.part(patients, labels, count, f"validation {session.spec.train.seed}")
    if np.isnan(per_finding(labels[chosen], labels[chosen])).all():
        return []
    return [study for study, inside in zip(ids, chosen, strict=True) if inside]


def _message(budget: Budget, validation: int) -> str:
    rounds, sizes = budget.rounds, accumulate(map(len, [budget.part, *budget.more]))
    when = f"every {rounds.every} epochs" if rounds.every > 1 else "each epoch"
    middle = "".join(
        f"the best {min(budget.kept, stage.epochs)} on {size:,}, of those "
        for stage, size in zip(rounds.middle, list(sizes)[1:], strict=True)
    )
    best = f"the best {rounds.full}" if rounds.full > 1 else "the best"
    return (
        f"Scores {len(budget.part):,} of {validation:,} validation studies after {when}; at the "
        f"end {middle}{best} on the whole split."
    )


def _without(ids: Sequence[str], excluded: Sequence[str]) -> list[str]:
    left_out = set(excluded)
    return [study for study in ids if study not in left_out]


def _best(aurocs: dict[int, float], count: int) -> dict[int, float]:
    """The epochs with the highest AUROC, in their order; of equal ones the earlier."""

    def order(epoch: int) -> tuple[float, int]:
        value = aurocs[epoch]
        return (math.inf if math.isnan(value) else -value), epoch

    best = sorted(aurocs, key=order)[:count]
    return {epoch: aurocs[epoch] for epoch in sorted(best)}


def _final_rounds(session: Session, budget: Budget, best: dict[int, float]) -> list[_Scores]:
    """Score the candidates on larger and larger parts, and the remaining ones on the whole split.

    Returns:
        The scores on the whole split, in the order of the epochs.
    """
    ids, scored = session.ids["val"], budget.part
    logits: dict[int, NDArray[np.float32]] = {}
    # Each round selects as many candidates as the next one scores.
    selected = [*(stage.epochs for stage in budget.rounds.middle), budget.rounds.full][1:]
    for more, count in zip(budget.more, selected, strict=True):
        scored = [*scored, *more]
        logits = {epoch: _extended_logits(session, epoch, logits, more) for epoch in best}
        labels = session.dataset.labels(scored)
        best = _best({epoch: macro(per_finding(labels, logits[epoch])) for epoch in best}, count)
    rest = _without(ids, scored)
    # The logits are in the order in which the studies were scored; the split has its own order.
    row = {study: i for i, study in enumerate([*scored, *rest])}
    order, labels = [row[study] for study in ids], session.dataset.labels(ids)
    whole = {epoch: _extended_logits(session, epoch, logits, rest)[order] for epoch in best}
    return [_scores_of(session, "val", epoch, each, labels) for epoch, each in whole.items()]


def _extended_logits(
    session: Session, epoch: int, known: dict[int, NDArray[np.float32]], more: list[str]
) -> NDArray[np.float32]:
    """A candidate's known logits, at least those of the part, followed by those of more studies."""
    with _weights_of(session, epoch) as of_part:
        logits = known.get(epoch, of_part)
        return np.concatenate([logits, predict(session, more)]) if more else logits


def _score(session: Session, curve: str, epoch: int, ids: Sequence[str]) -> _Scores:
    """Predict studies with the current weights and score them."""
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
    """Save the current weights if they score best so far on the whole split."""
    position = session.position
    position.last_auroc = scores.auroc
    if position.best_auroc is None or scores.auroc > position.best_auroc:
        position.best_auroc, position.best_epoch = scores.auroc, scores.epoch
        session.best_logits = scores.logits
        _write(session, session.folder / BEST, scores.epoch)


@contextlib.contextmanager
def _weights_of(session: Session, epoch: int) -> Iterator[NDArray[np.float32]]:
    """Load a candidate's weights within this context; yields its logits of the part."""
    current = trainable_state(session.model)
    state, _ = session.processes.from_main(lambda: read_state(_candidate(session, epoch)))
    logits = state.pop(LOGITS)
    load_trainable_state(session.model, state)
    try:
        yield logits.numpy()
    finally:
        load_trainable_state(session.model, current)


def _keep_candidate(session: Session, scores: _Scores, known: dict[int, float]) -> None:
    """Save the current weights as a candidate, and remove those of former candidates.

    Args:
        session: The run.
        scores: Scores of the current epoch on the part.
        known: The candidates of the last checkpoint. Their files stay until the next checkpoint,
            from which a killed run resumes, no longer refers to them.
    """
    if not session.processes.main:
        return
    for file in (session.folder / CANDIDATES).glob("*.safetensors"):
        if file.stem.isdigit() and int(file.stem) not in known:
            file.unlink(missing_ok=True)
    logits = {LOGITS: torch.from_numpy(scores.logits)}
    _write(session, _candidate(session, scores.epoch), scores.epoch, logits)
    if all(scores.auroc > auroc or math.isnan(auroc) for auroc in known.values()):
        # A run that is stopped before the final rounds leaves its best weights so far.
        _write(session, session.folder / BEST, scores.epoch)


def _candidate(session: Session, epoch: int) -> Path:
    return session.folder / CANDIDATES / f"{epoch}.safetensors"


def _write(
    session: Session, path: Path, epoch: int, extra: Mapping[str, Tensor] | None = None
) -> None:
    if not session.processes.main:
        return
    metadata = {
        "findings": json.dumps(session.dataset.findings),
        "backbone": session.weights.backbone,
        "backbone_sha256": session.weights.sha256 or "",
        "epoch": str(epoch),
    }
    path.parent.mkdir(exist_ok=True)
    write_state(path, {**trainable_state(session.model), **(extra or {})}, metadata)
