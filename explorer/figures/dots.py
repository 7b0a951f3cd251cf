"""Rows of dots with intervals on one scale, inside tables of runs.

They are HTML, so that names and numbers keep their size at any width. The title of each dot gives
its values, for the pointer and for screen readers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from core.metrics.intervals import Interval
from explorer.figures.palette import Style
from explorer.templates import render_macro

TEMPLATE = "figures/dots.html.j2"


@dataclass(frozen=True)
class Scale:
    """A horizontal axis shared by all rows.

    Attributes:
        low: Value at the left end.
        high: Value at the right end.
        zero: A value with a line of its own, such as no difference; NaN for none.
        factor: Values are multiplied by this before they are written.
        decimals: Decimals of the written values.
    """

    low: float
    high: float
    zero: float = math.nan
    factor: float = 1.0
    decimals: int = 2

    @classmethod
    def around(
        cls,
        intervals: Sequence[Interval],
        *,
        zero: float = math.nan,
        within: tuple[float, float] = (-math.inf, math.inf),
        factor: float = 1.0,
        decimals: int = 2,
    ) -> Scale:
        """A scale that holds all intervals, with a margin of 4%."""
        ends = [end for each in intervals for end in (each.value, each.low, each.high)]
        ends = [end for end in ends if not math.isnan(end)]
        if ends and not math.isnan(zero):
            ends.append(zero)
        low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
        room = 0.04 * (high - low) or 0.02
        low, high = max(low - room, within[0]), min(high + room, within[1])
        return cls(low, high, zero, factor, decimals)

    def percent(self, value: float) -> float:
        """Position of a value, in percent of the width."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return 100 * min(max(share, 0.0), 1.0)

    @property
    def marks(self) -> list[float]:
        """About six round values for the axis."""
        rough = (self.high - self.low) / 6
        if not rough > 0:
            return [self.low]
        power = 10 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 10) for i in range(first, last + 1)]

    def text(self, value: float) -> str:
        """A value as the axis shows it."""
        text = f"{value * self.factor:.{self.decimals}f}"
        return text.replace("-", "−") if float(text) else text.replace("-", "")


@dataclass(frozen=True)
class Dot:
    """One estimate with its interval.

    Attributes:
        interval: Value and bounds; NaN bounds draw no line.
        style: Colour and shape.
        title: The values in words.
        wider: A second interval around the same value, drawn thin.
    """

    interval: Interval
    style: Style
    title: str
    wider: Interval | None = None

    @property
    def defined(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.interval.value)


def dots(row: Sequence[Dot], scale: Scale) -> Markup:
    """One row's dots as HTML, one below the other on a common scale."""
    return render_macro(TEMPLATE, "row", dots=row, scale=scale)


def axis(scale: Scale, label: str) -> Markup:
    """The axis of rows of ``dots`` as HTML."""
    return render_macro(TEMPLATE, "axis", scale=scale, label=label)
