"""The figure of validation AUROC over learning rate."""

import io

from core.experiments.tune.figure import figure
from core.experiments.tune.result import RatePoint

CURVES = {
    "lora": (
        RatePoint(1e-3, 0.70, complete=True, default=True, chosen=False),
        RatePoint(3e-3, 0.55, complete=False, default=False, chosen=False),
        RatePoint(1e-2, 0.80, complete=True, default=False, chosen=True),
    ),
    "full": (RatePoint(1e-4, 0.75, complete=True, default=True, chosen=True),),
}
COLOURS = {"lora": "#009E73", "full": "#D55E00"}


def test_trials_default_and_choice_are_drawn() -> None:
    drawn = figure(CURVES, COLOURS)
    (axes,) = drawn.axes
    assert axes.get_xscale() == "log"
    lines = axes.get_lines()
    lora, stopped, full, _, default, chosen, _ = lines
    assert list(lora.get_xdata()) == [1e-3, 1e-2]
    assert lora.get_color() == stopped.get_color() == COLOURS["lora"]
    assert lora.get_marker() != full.get_marker()
    assert (list(stopped.get_ydata()), stopped.get_markerfacecolor()) == ([0.55], "none")
    assert list(default.get_xdata()) == [1e-3, 1e-4]
    assert list(chosen.get_ydata()) == [0.80, 0.75]
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["LoRA", "Full fine-tuning", "default settings", "chosen", "stopped early"]
    drawn.savefig(io.BytesIO(), format="png")


def test_without_stopped_trials_there_is_no_word_of_them() -> None:
    axes = figure({"full": CURVES["full"]}, COLOURS).axes[0]
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["Full fine-tuning", "default settings", "chosen"]
    assert figure({}, {}).axes
