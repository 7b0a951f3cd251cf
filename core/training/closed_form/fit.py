"""Fit the methods without epochs: logistic regression, nearest neighbours, ridge on pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from core.data import subsets
from core.errors import Stopped
from core.models.tuning.nearest_neighbours import NearestNeighboursHead
from core.models.tuning.pixel_ridge import PixelRidge
from core.training import checkpoint, validation
from core.training.checkpoint import saved_on_stop
from core.training.closed_form.logistic import fit_logistic
from core.training.closed_form.neighbours import choose_neighbours
from core.training.closed_form.ridge import fit_ridge, platt_scaling
from core.training.closed_form.selection import LinearFit, Progress, Studies, best
from core.training.session import TRAINED, Session

FEATURES_SHARE = 0.7
"""Share of the progress until training ends in which the features are computed."""


def fit_closed_form(session: Session) -> None:
    """Fit the head of a run on the labelled studies, validate it and keep it.

    Args:
        session: The run; its images, and the features of a frozen backbone, are prepared.

    Raises:
        DataError: The labels of the training studies do not allow a fit.
        Stopped: The user asked for it; a resumed run repeats the fit.
    """
    position = session.position
    with saved_on_stop(session):
        if not position.epoch:
            train = _studies(session, "train", 0.0)
            val = _studies(session, "val", FEATURES_SHARE / 2)
            FITS[session.spec.adapter.method](session, train, val)
            position.epoch, position.unvalidated = 1, True
        if position.unvalidated:
            validation.validate(session)
    position.unvalidated = False
    checkpoint.save(session)


def _logistic(session: Session, train: Studies, val: Studies) -> None:
    fit, aurocs = fit_logistic(train, val, _progress(session, "fitting logistic regressions"))
    _log_choice(session, aurocs, "C = {:g}")
    _write(session.model.get_classifier(), fit)  # type: ignore[operator]


def _knn(session: Session, train: Studies, val: Studies) -> None:
    head = session.model.get_classifier()  # type: ignore[operator]
    assert isinstance(head, NearestNeighboursHead)
    train.check_learnable()
    head.fit(
        *(torch.tensor(part, device=head.bank.device) for part in (train.features, train.labels))
    )
    aurocs = choose_neighbours(head, val, _progress(session, "choosing the neighbours"))
    _log_choice(session, aurocs, "{} neighbours, temperature {:g}")


def _pixels(session: Session, train: Studies, val: Studies) -> None:
    model = session.model
    assert isinstance(model, PixelRidge)
    session.report.log("Fits grey values of 32 × 32 pixels; no backbone and no weights are used.")
    fit, aurocs = fit_ridge(train, val, _progress(session, "fitting ridge regressions"))
    _log_choice(session, aurocs, "penalty {:g}")
    _write(model.head, fit)
    slope, shift = platt_scaling(fit.scores(val.features), val.labels)
    with torch.no_grad():
        model.slope.copy_(torch.from_numpy(slope))
        model.shift.copy_(torch.from_numpy(shift))


FITS: dict[str, Callable[[Session, Studies, Studies], None]] = {
    "logistic": _logistic,
    "knn": _knn,
    "pixels": _pixels,
}
"""The fit of each method, given session, training and validation studies."""


def _studies(session: Session, split: str, start: float) -> Studies:
    """Inputs of the head and labels of a split; progress is reported from ``start`` on."""
    ids, report = session.ids[split], session.report

    def progress(done: int, total: int) -> None:
        share = start + FEATURES_SHARE / 2 * done / total
        report.progress(TRAINED * share, None, f"computing features {done:,} of {total:,}")

    if split == "train":
        labels = subsets.labels(session.dataset, ids, session.spec.data)
    else:
        labels = session.dataset.labels(ids)
    return Studies(_head_inputs(session, ids, progress), labels)


def _head_inputs(
    session: Session, ids: Sequence[str], progress: Progress
) -> np.ndarray[Any, np.dtype[np.float32]]:
    recorded: list[torch.Tensor] = []

    def record(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        recorded.append(inputs[0].float().cpu())

    hook = session.model.get_classifier().register_forward_pre_hook(record)  # type: ignore[operator]
    try:
        validation.predict(session, ids, progress)
    finally:
        hook.remove()
    return torch.cat(recorded).numpy()


def _progress(session: Session, activity: str) -> Progress:
    def progress(done: int, total: int) -> None:
        if session.stop_requested():
            raise Stopped
        share = FEATURES_SHARE + (1 - FEATURES_SHARE) * done / total
        session.report.progress(TRAINED * share, None, f"{activity}, {done} of {total}")

    return progress


def _log_choice(session: Session, aurocs: Mapping[Any, float], text: str) -> None:
    chosen = best(dict(aurocs))
    setting = text.format(*chosen) if isinstance(chosen, tuple) else text.format(chosen)
    session.report.log(
        f"Chosen on validation among {len(aurocs)} settings: {setting} (AUROC "
        f"{aurocs[chosen]:.4f}; lowest {min(aurocs.values()):.4f})."
    )


def _write(head: nn.Linear, fit: LinearFit) -> None:
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(fit.weight))
        head.bias.copy_(torch.from_numpy(fit.bias))
