"""Decision curve of one finding: net benefit of the model, of calling all, and of calling none."""

from __future__ import annotations

from markupsafe import Markup

from core.evaluation.evaluate import FindingScore
from core.formatting import share
from explorer.figures.charts import chart, line
from explorer.figures.palette import OTHER, Style

TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.9)
ALL, NONE = Style(OTHER.colour, "7 4", "circle"), Style(OTHER.colour, "2 3", "circle")


def decision_chart(finding: FindingScore, style: Style) -> Markup:
    """Chart of the net benefit over the threshold probability.

    Args:
        finding: The finding; it has a decision curve.
        style: Colour and dashes of the model.
    """
    thresholds = [point.threshold for point in finding.net_benefit]
    model = [point.model for point in finding.net_benefit]
    every = [point.treat_all for point in finding.net_benefit]
    highest = max(*model, *every, 0.01)
    title = f"Decision curve, {finding.finding.replace('_', ' ')}"
    better = sum(point.model > max(point.treat_all, 0.0) for point in finding.net_benefit)
    return chart(
        [
            line("model", thresholds, model, style),
            line("call all", thresholds, every, ALL),
            line("call none", thresholds, [0.0] * len(thresholds), NONE),
        ],
        title=title,
        description=f"{title} at a prevalence of {share(finding.prevalence)}: the model has the "
        f"highest net benefit at {better} of {len(thresholds)} thresholds",
        x="threshold probability (logarithmic)",
        height=260,
        hovermode="x unified",
        xaxis={
            "type": "log",
            "tickvals": TICKS,
            "ticktext": [share(tick) for tick in TICKS],
            "hoverformat": ".1%",
        },
        # Calling all is far below zero at high thresholds, where nobody would do it.
        yaxis={"range": [-0.3 * highest, 1.08 * highest], "hoverformat": ".4f"},
        legend={"orientation": "h"},
    )
