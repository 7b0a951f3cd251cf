from core.config.run import RunSpec
from core.errors import DataError
from explorer.formatting import method_title
from explorer.templates import error_message


def test_the_rank_is_said_where_there_is_one() -> None:
    assert method_title(RunSpec()) == "LoRA r 4"
    assert method_title(RunSpec.of(**{"adapter.method": "full"})) == "Full fine-tuning"


def test_a_fault_says_cause_and_remedy_and_cannot_break_the_page() -> None:
    html = error_message(DataError("No <folder>.", "Give one."))
    assert "No &lt;folder&gt;." in html
    assert "Give one." in html
    assert 'role="alert"' in html
