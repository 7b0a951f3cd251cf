"""Versions, machine and commit of a run."""

import sys
from pathlib import Path

from core.runs.provenance import commit, environment
from tests.support.programs import output_of


def test_the_environment_is_told_without_importing_it() -> None:
    code = (
        "import sys; from core.runs import worker; from core.runs.provenance import environment; "
        "import json; json.dumps(environment()); assert 'torch' not in sys.modules"
    )
    output_of(code)
    found = environment()
    assert found["packages"]["torch"]
    assert found["command"] == sys.argv


def test_a_folder_that_is_no_checkout_has_no_commit(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
