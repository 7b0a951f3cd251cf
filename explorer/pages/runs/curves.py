"""The validation AUROC and loss of one run while it trains, as charts."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from core.reporter import MEAN_AUROC, PART_AUROC
from core.runs.run import MetricRow, Run
from explorer.figures.charts import chart, curve, mean_over_seeds
from explorer.figures.palette import METHODS, OTHER, method_style

HEIGHT = 380
"""Height in pixels, with room for a legend of 14 findings."""


def auroc_chart(
    run: Run, rows: Sequence[MetricRow], other_seeds: Sequence[Sequence[MetricRow]] = ()
) -> Markup:
    """Chart of the validation AUROC: the mean, each finding, and the mean over other seeds.

    A run that validates on part of the split during training shows these values, and the means on
    the whole split as dots.

    Args:
        run: The run.
        rows: Its metrics.
        other_seeds: Metrics of runs that differ only in the seed.
    """
    style, batch = method_style(run.spec.adapter.method), run.spec.train.batch_size
    whole, part = _named(rows, MEAN_AUROC), _named(rows, PART_AUROC)
    shown, metric = (part, PART_AUROC) if part else (whole, MEAN_AUROC)
    findings = sorted({row.name for row in rows if row.name.startswith(f"{metric}/")})
    if len(findings) == 1:  # its curve equals the mean
        findings = []
    title, description = "Validation AUROC, mean and findings", "Validation AUROC: no values yet"
    if shown:
        description = (
            f"Validation AUROC over {shown[-1].epoch:g} epochs: mean from {shown[0].value:.3f} to "
            f"{shown[-1].value:.3f}, best {max(row.value for row in shown):.3f}, and "
            f"{len(findings)} findings"
        )
    if part:
        title += "; on part of the split"
        description += "; on part of the split"
    if part and whole:
        title += "; dots: mean on the whole split"
        best = max(row.value for row in whole)
        description += f"; the best mean on the whole split is {best:.3f}"
    styles = [each for each in METHODS.values() if each != style]
    traces = [
        *curve("mean", shown, style, batch),
        *(
            trace
            for i, name in enumerate(findings)
            for trace in curve(
                name.removeprefix(f"{metric}/").replace("_", " "),
                _named(rows, name),
                styles[i % len(styles)],
                batch,
                thin=True,
            )
        ),
    ]
    if part:
        traces += [
            {**trace, "mode": "markers"}
            for trace in curve("mean on the whole split", whole, style, batch)
        ]
    if other_seeds:
        seeds = [_named(each, metric) for each in (rows, *other_seeds)]
        traces += mean_over_seeds(f"mean of {len(seeds)} seeds", seeds, OTHER, batch)
    return chart(
        traces,
        title=title,
        description=description,
        x="epochs",
        height=HEIGHT,
        hovermode="x unified",
        xaxis={"range": [0, run.spec.resolved().train.epochs]},
        yaxis={"hoverformat": ".3f"},
    )


def loss_chart(run: Run, rows: Sequence[MetricRow]) -> Markup:
    """Chart of the training and validation loss."""
    style, batch = method_style(run.spec.adapter.method), run.spec.train.batch_size
    train = _named(rows, "train/loss")
    part, whole = _named(rows, "val-part/loss"), _named(rows, "val/loss")
    return chart(
        [
            *curve("training", train, style, batch),
            *curve("validation, in part" if part else "validation", part or whole, OTHER, batch),
        ],
        title="Loss",
        description="Training and validation loss"
        + (f", last {train[-1].value:.4f}" if train else ""),
        x="epochs",
        height=HEIGHT,
        meta="loss",
        hovermode="x unified",
        xaxis={"range": [0, run.spec.resolved().train.epochs]},
        yaxis={"hoverformat": ".4f"},
    )


def _named(rows: Sequence[MetricRow], name: str) -> list[MetricRow]:
    return [row for row in rows if row.name == name and row.value == row.value]  # not NaN
