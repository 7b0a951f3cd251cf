"""Figure of the paper's grid: differences by task, and label-efficiency curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigurationError
from core.evaluation.verdict import Evidence
from core.experiments.paper.claims import PAPER_GAIN
from core.experiments.paper.results import EVIDENCE, FULL, LORA, Efficiency, Outcome
from core.experiments.paper.tables import Report, title
from core.formatting import DISCLAIMER, share
from core.models.backbones.registry import backbone_card

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES: dict[str, dict[str, Any]] = {
    ".png": {},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
"""Suffixes of the figure's formats, with metadata that leaves out the date."""
DPI = 160
TONES: dict[Evidence, tuple[str, str]] = {
    "above": ("#009E73", "o"),
    "below": ("#D55E00", "s"),
    "unclear": ("#6B7280", "D"),
    "undecided": ("#6B7280", "o"),
}
"""Colour and marker of a difference by its evidence; undecided markers are hollow."""

LINES = {LORA: ("#009E73", "-", "o", "LoRA"), FULL: ("#D55E00", "--", "s", "full fine-tuning")}
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "cxr",
    "svg.fonttype": "none",
}
ROW_INCHES = 0.23
"""Height of one task."""


def draw(report: Report, path: Path) -> None:
    """Write the figure as PNG, SVG or PDF, by the suffix of the file.

    Args:
        report: The report.
        path: The file.

    Raises:
        ConfigurationError: The suffix is unknown, or the file cannot be written.
    """
    import matplotlib as mpl

    if path.suffix.lower() not in SUFFIXES:
        raise ConfigurationError(
            f"A figure cannot be written as “{path.suffix or path.name}”.",
            f"Choose a name that ends in {', '.join(SUFFIXES)}.",
        )
    with mpl.rc_context(STYLE):
        drawn = figure(report)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn.savefig(path, dpi=DPI, metadata=SUFFIXES[path.suffix.lower()])
        except OSError as error:
            raise ConfigurationError(
                f"The figure {path} cannot be written ({error.strerror or error}).",
                "Choose another folder.",
            ) from error


def figure(report: Report) -> Figure:
    """Differences by task on the left, label-efficiency curves on the right."""
    from matplotlib.figure import Figure

    outcomes, curves = report.judgement.outcomes, report.efficiency
    groups = list(dict.fromkeys((each.task.backbone, each.task.data) for each in outcomes))
    rows = len(outcomes) + len(groups)
    backbones = list(dict.fromkeys(backbone for backbone, _ in groups))
    height = max(1.5 + ROW_INCHES * rows, 2.0 + 1.5 * len(backbones))
    drawn = Figure(figsize=(11.0, height), layout="constrained")
    left, right = drawn.subfigures(1, 2, squeeze=False, width_ratios=(1.12, 1.0))[0]
    _forest(left.add_subplot(), outcomes, groups)
    columns = max(sum(name == backbone for name, _ in groups) for backbone in backbones)
    panels = right.subplots(len(backbones), columns, squeeze=False, sharex=True)
    for r, backbone in enumerate(backbones):
        data_sets = [data for name, data in groups if name == backbone]
        for c in range(columns):
            if c < len(data_sets):
                efficiency = _find(curves, backbone, data_sets[c])
                name = _short_title(data_sets[c])
                _draw_curves(panels[r][c], efficiency, name, first=c == 0, backbone=backbone)
            else:
                panels[r][c].set_axis_off()
    _legends(left, right, panels[0][0])
    return drawn


def _forest(axes: Axes, outcomes: Sequence[Outcome], groups: Sequence[tuple[str, str]]) -> None:
    """One row per task: difference, interval over seeds (thick) and over patients (thin)."""
    y, names = 0.0, []
    axes.axvline(0, color="#9CA3AF", linewidth=0.8, linestyle="--", zorder=0)
    axes.axvline(100 * PAPER_GAIN, color="#9CA3AF", linewidth=0.7, linestyle=":", zorder=0)
    for backbone, data in groups:
        axes.text(0.0, y, f"{backbone_card(backbone).title} · {title(data)}", fontweight="bold",
                  transform=axes.get_yaxis_transform(), va="center", fontsize=8)  # fmt: skip
        y += 1
        for outcome in outcomes:
            if (outcome.task.backbone, outcome.task.data) == (backbone, data):
                _draw_difference(axes, outcome, y)
                names.append((y, share(outcome.task.fraction)))
                y += 1
    axes.set_yticks([position for position, _ in names], [name for _, name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - 0.4, -0.7)
    limit = _x_limit(outcomes)
    axes.set_xlim(-limit, limit)
    axes.set_xlabel("LoRA − full fine-tuning, test AUROC points\n"
                    "(interval: thick over seeds and patients, thin over patients)",
                    fontsize=7.5)  # fmt: skip
    axes.set_ylabel("share of the labels")
    axes.text(100 * PAPER_GAIN, -0.72, " 2.9", fontsize=7, color="#6B7280", va="bottom")
    for kind in dict.fromkeys(each.verdict.evidence for each in outcomes if each.verdict):
        colour, marker = TONES[kind]
        axes.plot([], [], marker, color=colour, markersize=5, label=EVIDENCE[kind],
                  markerfacecolor="white" if kind == "undecided" else colour)  # fmt: skip
    if any(outcome.task.gain is not None for outcome in outcomes):
        axes.plot([], [], "*", color="#0072B2", markersize=7, label="published")


def _x_limit(outcomes: Sequence[Outcome]) -> float:
    """Limit of the axis in points: includes all differences, but not every wide interval."""
    verdicts = [outcome.verdict for outcome in outcomes if outcome.verdict]
    values = [abs(100 * verdict.difference.value) for verdict in verdicts]
    ends = [
        abs(100 * end)
        for verdict in verdicts
        for interval in (verdict.difference, verdict.over_patients)
        for end in (interval.low, interval.high)
    ]
    most = max((value for value in values if not math.isnan(value)), default=0.0)
    furthest = max((end for end in ends if not math.isnan(end)), default=0.0)
    return 1.05 * max(4.0, most, min(furthest, 2.0 * most + 4.0))


def _draw_difference(axes: Axes, outcome: Outcome, y: float) -> None:
    if outcome.task.gain is not None:
        axes.plot([100 * outcome.task.gain], [y], "*", color="#0072B2", markersize=7, zorder=2)
    verdict = outcome.verdict
    if verdict is None or math.isnan(verdict.difference.value):
        axes.text(0.985, y, "not run", transform=axes.get_yaxis_transform(), va="center",
                  ha="right", fontsize=7, color="#6B7280")  # fmt: skip
        return
    colour, marker = TONES[verdict.evidence]
    thick, thin = (verdict.difference, 2.6, colour), (verdict.over_patients, 0.9, "#111827")
    for interval, width, tone in (thick, thin):
        if not math.isnan(interval.low):
            axes.plot([100 * interval.low, 100 * interval.high], [y, y], color=tone,
                      linewidth=width, solid_capstyle="butt", zorder=2)  # fmt: skip
    axes.plot([100 * verdict.difference.value], [y], marker, color=colour, markersize=5, zorder=3,
              markerfacecolor="white" if verdict.evidence == "undecided" else colour)  # fmt: skip


def _draw_curves(
    axes: Axes, efficiency: Efficiency | None, name: str, *, first: bool, backbone: str
) -> None:
    """Test AUROC by label fraction, with bands."""
    from matplotlib.ticker import NullLocator

    for curve in efficiency.curves if efficiency else ():
        colour, line, marker, label = LINES[curve.method]
        shares = [level.fraction for level in curve.levels]
        axes.plot(shares, [level.auroc.value for level in curve.levels], line, color=colour,
                  marker=marker, markersize=3.5, linewidth=1.4, label=label)  # fmt: skip
        axes.fill_between(shares, [level.auroc.low for level in curve.levels],
                          [level.auroc.high for level in curve.levels], color=colour, alpha=0.15,
                          linewidth=0)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([0.01, 0.1, 1.0], ["1%", "10%", "100%"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.008, 1.25)
    axes.set_title(name, fontsize=8.5)
    if first:
        axes.set_ylabel(f"{backbone_card(backbone).title}\ntest AUROC", fontsize=7.5)


def _legends(left: Any, right: Any, panel: Axes) -> None:
    for part, axes, side in ((left, left.axes[0], "lower"), (right, panel, "upper")):
        handles, names = axes.get_legend_handles_labels()
        if handles:
            part.legend(handles, names, loc=f"outside {side} center", ncols=4, frameon=False,
                        fontsize=7.5)  # fmt: skip
    right.supxlabel("share of the labels (band: 95% over seeds, or over patients with one seed)\n"
                    f"{DISCLAIMER}",
                    fontsize=7.5)  # fmt: skip


def _find(curves: Sequence[Efficiency], backbone: str, data: str) -> Efficiency | None:
    return next((each for each in curves if (each.backbone, each.data) == (backbone, data)), None)


def _short_title(data: str) -> str:
    return title(data).split(" (")[0].replace("Pneumonia Detection Challenge", "Pneumonia")
