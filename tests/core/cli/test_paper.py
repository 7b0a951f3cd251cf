"""``python -m core paper``, as a shell uses it."""

import json
import time
from pathlib import Path

import pytest

from core.config.run import RunSpec
from core.experiments.paper import tuned
from core.experiments.paper.grid import select_tasks
from core.experiments.paper.tasks import MINIATURE, find_task
from core.experiments.tune.tune import Tuning
from core.runs.store import open_store
from core.workspace import open_workspace
from tests.core.cli.conftest import Invoke
from tests.support.measured import note_speed
from tests.support.programs import Cli, output_of
from tests.support.tuned_run import served


@pytest.fixture
def call(cli: Cli, tmp_path: Path) -> Cli:
    """Run the verb in a workspace of the test's own."""
    note_speed(tmp_path / "ws" / "cache", cpu=1e11)
    return lambda *words: cli("paper", *words, "--workspace", tmp_path / "ws")


@pytest.mark.slow
def test_a_dry_run_lists_every_run_with_its_specification_and_makes_none(
    call: Cli, tmp_path: Path
) -> None:
    code, out, _ = call("--embedded", "--only", "phantom-1", "--seeds", 2, "--dry-run", "--json")
    assert code == 0
    found = json.loads(out)
    tasks = [task for task in MINIATURE if task.data == "phantom-1"]
    assert len(found["cells"]) == 2 * 2 * len(tasks)
    for cell in found["cells"]:
        spec = RunSpec.from_json(json.dumps(cell["spec"]))
        assert spec == find_task(cell["task"]).spec(cell["method"], seed=cell["seed"])
        assert cell["fingerprint"] == spec.fingerprint()
        assert cell["seconds"] > 0
        assert cell["bytes"] > 0
        assert not cell["done"]
    assert found["seconds"] == pytest.approx(sum(cell["seconds"] for cell in found["cells"]))
    assert open_store(open_workspace(tmp_path / "ws"), create=False).list() == []


def test_the_paper_itself_needs_weights_and_data(call: Cli) -> None:
    code, out, _ = call("--only", "nih", "--fractions", "0.01", "--dry-run")
    assert code == 0
    assert "mrm-nih-1-lora-0" in out
    assert "needs its weights" in out
    assert "4 cannot be run here" in out
    code, out, err = call("--only", "nih", "--fractions", "1%")
    assert (code, out) == (1, "")
    assert "--weights mrm=FILE" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "nhi"], "Did you mean nih"),
        (["--fractions", "much"], "not a label fraction"),
        (["--methods", "lorra"], "Did you mean lora"),
        (["--format", "markdwon"], "Did you mean markdown"),
        (["--out", "verdict.docx"], ".svg"),
        (["--root", "nih"], "NAME=PATH"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_run(
    call: Cli, words: list[str], said: str
) -> None:
    code, out, err = call("--embedded", *words)
    assert (code, out) == (1, "")
    assert said in err


@pytest.mark.slow
def test_what_was_not_run_is_judged_as_such(call: Cli, tmp_path: Path) -> None:
    out = [tmp_path / name for name in ("verdict.md", "verdict.svg", "verdict.tex")]
    places = [word for path in out for word in ("--out", path)]
    code, said, err = call("--embedded", "--judge", "--json", *places)
    assert code == 0
    found = json.loads(said)
    assert found["compared"] == 0
    assert {one["status"] for one in found["claims"]} == {"not decidable"}
    assert "not run" in out[0].read_text()
    assert out[1].read_text().startswith("<?xml")
    assert err.count("Written") == 3


def test_help_is_quick_to_load() -> None:
    code = "import sys, core.cli.paper; print({'torch', 'matplotlib', 'numpy'} & set(sys.modules))"
    assert output_of(code) == "set()\n"


def test_assumed_settings_are_tuned_on_request(invoke: Invoke, tmp_path: Path) -> None:
    words = ["paper", "--embedded", "--only", "rsna", "--fractions", "1", "--backbones",
             "embedded-mae", "--tuned", "--trials", "2"]  # fmt: skip
    note_speed(tmp_path / "workspace" / "cache", cpu=1e11)
    before = invoke(*words, "--dry-run", "--json").json
    assert [cell["spec"]["train"]["lr"] for cell in before["cells"]] == [None, None]
    (task,) = select_tasks(
        embedded=True, only=["rsna"], fractions=[1.0], backbones=["embedded-mae"]
    )
    workspace = open_workspace(tmp_path / "workspace")
    store = open_store(workspace, create=True)
    planned = tuned.plans([task], trials=2)
    with served(store, workspace):
        for plan in planned.values():
            Tuning(plan, store, workspace).choose(wait=lambda seconds: time.sleep(0.02))
    chosen = tuned.tuned_tasks([task], planned, workspace)[0]
    cells = invoke(*words, "--dry-run", "--json").json["cells"]
    assert {cell["method"]: cell["spec"]["train"]["lr"] for cell in cells} == {
        method: recipe.lr for method, recipe in chosen.recipes.items()
    }
    report = invoke(*words, "--judge", "--json").json
    assert report["tasks"][0]["settings"] == {"lora": "tuned", "full": "tuned"}
    assert "--tuned" in report["command"]
    assert "both tuned" in invoke(*words, "--judge").out
