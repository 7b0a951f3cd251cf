import pytest

from core import formatting
from core.config.run import RunSpec
from core.errors import DataError
from explorer.formatting import method_title
from explorer.templates import error_message


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (80, "1 min 20 s"),
        (601, "10 min"),
        (7500, "2 h 5 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_duration(seconds: float | None, words: str) -> None:
    assert formatting.duration(seconds) == words


def test_numbers() -> None:
    assert formatting.auroc(0.8064) == "0.806"
    assert formatting.auroc(None) == formatting.auroc(float("nan")) == "–"
    assert formatting.points(0.0182) == "+1.8"
    assert formatting.points(-0.004) == "−0.4"
    assert formatting.number(159758) == "159,758"
    assert formatting.share(0.00186) == "0.186%"
    assert formatting.share(1) == "100%"


def test_the_title_has_a_rank_if_the_method_has_one() -> None:
    assert method_title(RunSpec()) == "LoRA r 4"
    assert method_title(RunSpec.of(**{"adapter.method": "full"})) == "Full fine-tuning"


def test_an_error_shows_cause_and_remedy_escaped() -> None:
    html = error_message(DataError("No <folder>.", "Give one."))
    assert "No &lt;folder&gt;." in html
    assert "Give one." in html
    assert 'role="alert"' in html
