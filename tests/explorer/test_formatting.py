from core.config.run import RunSpec
from core.errors import DataError
from explorer.formatting import method_title
from explorer.templates import error_message


def test_the_title_has_a_rank_if_the_method_has_one() -> None:
    assert method_title(RunSpec()) == "LoRA r 4"
    assert method_title(RunSpec.of(**{"adapter.method": "full"})) == "Full fine-tuning"
    ensemble = RunSpec.of(**{"adapter.combined": "ensemble 0123abcd 4567abcd"})
    assert method_title(ensemble) == "ensemble of 2"


def test_an_error_shows_cause_and_remedy_escaped() -> None:
    html = error_message(DataError("No <folder>.", "Give one."))
    assert "No &lt;folder&gt;." in html
    assert "Give one." in html
    assert 'role="alert"' in html
