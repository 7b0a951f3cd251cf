"""The validation AUROC and loss of one run by epoch, as figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.reporter import MEAN_AUROC, PART_AUROC
from core.runs.run import MetricRow, Run
from explorer.figures.curves import Curve, chart
from explorer.figures.palette import Style, method_style

MOST_LABELS = 16
"""With more findings than this their curves are not labelled."""

_VALIDATION_LOSS = Style("#8A94A6", "", "circle")


def auroc_chart(run: Run, rows: Sequence[MetricRow]) -> str:
    """Figure of the validation AUROC by epoch: the mean and each finding.

    A run that validates on part of the split during training shows these values, and the means on
    the whole split as dots.
    """
    style = method_style(run.spec.adapter.method)
    whole, part = (_curve(rows, name, "mean", style) for name in (MEAN_AUROC, PART_AUROC))
    mean, metric = (part, PART_AUROC) if part.y else (whole, MEAN_AUROC)
    findings = _finding_curves(rows, metric)
    mean = replace(mean, label="mean" if findings else "")
    title, description = "Validation AUROC, mean and findings", "Validation AUROC: no values yet"
    if mean.y:
        description = (
            f"Validation AUROC over {mean.x[-1]:g} epochs: mean from {mean.y[0]:.3f} to "
            f"{mean.y[-1]:.3f}, best {max(mean.y):.3f}, and {len(findings)} findings"
        )
    if part.y:
        title += "; on part of the split"
        description += "; on part of the split"
    if part.y and whole.y:
        title += "; dots: mean on the whole split"
        description += f"; the best mean on the whole split is {max(whole.y):.3f}"
    dots = [
        Curve("mean on the whole split", [x], [y], style)
        for x, y in zip(whole.x, whole.y, strict=True)
        if part.y
    ]
    return chart(
        [mean, *findings, *dots],
        title=title,
        description=description,
        epochs=run.spec.resolved().train.epochs,
        bounds=(None, 1.0),
    )


def loss_chart(run: Run, rows: Sequence[MetricRow]) -> str:
    """Figure of the training and validation loss by epoch."""
    train = _curve(rows, "train/loss", "training", method_style(run.spec.adapter.method))
    validation = _curve(rows, "val-part/loss", "validation, in part", _VALIDATION_LOSS)
    if not validation.y:
        validation = _curve(rows, "val/loss", "validation", _VALIDATION_LOSS)
    last = f", last {train.y[-1]:.4f}" if train.y else ""
    return chart(
        [replace(curve, label=curve.name) for curve in (train, validation)],
        title="Loss",
        description=f"Training and validation loss{last}",
        epochs=run.spec.resolved().train.epochs,
        digits=4,
    )


def _finding_curves(rows: Sequence[MetricRow], metric: str) -> list[Curve]:
    """A curve for each finding; none if there is one finding, whose curve equals the mean."""
    names = sorted({row.name for row in rows if row.name.startswith(f"{metric}/")})
    if len(names) == 1:
        return []
    curves = [
        _curve(rows, name, name.removeprefix(f"{metric}/").replace("_", " "), None)
        for name in names
    ]
    if len(curves) > MOST_LABELS:
        return curves
    return [replace(curve, label=curve.name) for curve in curves]


def _curve(rows: Sequence[MetricRow], metric: str, name: str, style: Style | None) -> Curve:
    known = [row for row in rows if row.name == metric and row.value == row.value]  # not NaN
    return Curve(name, [row.epoch for row in known], [row.value for row in known], style)
