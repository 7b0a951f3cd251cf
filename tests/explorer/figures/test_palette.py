import re

from core.models.tuning.registry import TUNING_METHODS as KNOWN
from core.runs.run import RunState
from explorer.figures.palette import METHODS, STATES, method_style, run_styles, state_dot
from explorer.theme import STYLE


def luminance(colour: str) -> float:
    """Relative luminance of a hexadecimal colour (WCAG 2.2)."""
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def variables() -> dict[str, dict[str, str]]:
    """The style sheet's colours by theme."""
    text = STYLE.read_text()
    blocks = {"light": text.split(":root {")[1], "dark": text.split(".dark {")[1]}
    return {
        theme: dict(re.findall(r"--cxr-([a-z-]+): (#[0-9a-f]{6});", block.split("}")[0]))
        for theme, block in blocks.items()
    }


def test_every_method_has_a_style_of_its_own() -> None:
    assert set(KNOWN) <= set(METHODS)
    assert len({style.colour for style in METHODS.values()}) == len(METHODS)


def test_the_main_methods_differ_by_more_than_colour() -> None:
    main = [method_style(name) for name in ("lora", "full", "linear")]
    assert len({style.dasharray for style in main}) == 3
    assert len({style.marker for style in main}) == 3


def test_the_main_methods_stand_out_from_both_backgrounds() -> None:
    for colours in variables().values():
        for name in ("lora", "full", "linear"):
            assert contrast(METHODS[name].colour, colours["panel"]) >= 3, name


def test_runs_of_one_method_have_different_styles() -> None:
    styles = run_styles(["lora", "full", "lora", "lora"])
    assert styles[0] == METHODS["lora"]
    assert len(set(styles)) == 4


def test_every_state_has_a_dot_and_a_word() -> None:
    assert set(STATES) == {str(state) for state in RunState}
    for state in RunState:
        assert STATES[state].word in state_dot(state)


def test_text_is_readable_in_both_themes() -> None:
    for theme, colours in variables().items():
        for text in ("ink", "muted", "accent", "good", "warn", "bad"):
            for ground in ("ground", "panel", "field"):
                ratio = contrast(colours[text], colours[ground])
                assert ratio >= 4.5, f"{theme}: {text} on {ground} is {ratio:.2f}"
        for text, ground in (("ink", "raised"), ("muted", "raised"), ("ink", "chosen"),
                             ("on-accent", "accent"), ("bad", "raised")):  # fmt: skip
            assert contrast(colours[text], colours[ground]) >= 4.5, (theme, text, ground)
