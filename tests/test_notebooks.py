"""The notebooks run from top to bottom, fill the store, and can be read by a stranger."""

import os
import re
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from core.runs.store import open_store
from core.workspace import VARIABLE, Workspace, open_workspace
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS_A_CELL = 1200
MOST_BYTES = 2_000_000
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|work|tmp|Users|mnt|data)/|\b[A-Z]:\\", re.I)
PLANS_ONLY = {"07_the_paper"}
"""Notebooks that carry out no run in the short version."""


def read(path: Path) -> NotebookNode:
    book: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return book


def execute(path: Path, workspace: Workspace, *, fast: bool = True) -> NotebookNode:
    """Run a notebook in a kernel of its own, whose workspace and settings are the test's."""
    book = read(path)
    env = os.environ | {
        VARIABLE: str(workspace.root),
        "CXR_FAST": "1" if fast else "",
        "IPYTHONDIR": str(workspace.root / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    env.pop("CXR_MINE", None)
    client = NotebookClient(
        book,
        timeout=SECONDS_A_CELL,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(workspace.root)}},
    )
    client.execute(env=env)
    return book


def shown(book: NotebookNode, kind: str) -> list[str]:
    """What the cells displayed in one format."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def words(path: Path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Workspace:
    """One workspace for all notebooks, as a reader has: pictures are drawn once."""
    root = tmp_path_factory.mktemp("notebooks") / "workspace"
    root.mkdir()
    (root / "cache").symlink_to(pictures)
    return open_workspace(root)


def test_there_are_eight_that_are_read_in_order() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{i:02d}" for i in range(1, 9)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom_and_fills_the_store(path: Path, shared: Workspace) -> None:
    store = open_store(shared, create=True)
    before = {run.id for run in store.list()}
    book = execute(path, shared)
    runs = [run for run in store.list() if run.id not in before]
    store.close()
    assert {str(run.state) for run in runs} == (set() if path.stem in PLANS_ONLY else {"completed"})
    pictures = len(shown(book, "image/png"))
    pictures += sum(html.count("<img ") for html in shown(book, "text/html"))
    assert pictures >= 2
    if path.stem == "01_quickstart":
        tables = "\n".join(shown(book, "text/html"))
        for run in runs:
            assert run.scores is not None
            test = run.scores["test"]
            for auroc in (test["auroc"], *test["per_finding"].values()):
                assert re.search(rf"{auroc:.3f} \(0\.\d{{3}} to [01]\.\d{{3}}\)", tables)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_small_and_without_places_or_errors_of_a_machine(path: Path) -> None:
    assert path.stat().st_size <= MOST_BYTES
    for cell in read(path).cells:
        assert set(cell.metadata) <= {"tags"}
        assert not ABSOLUTE.search(cell.source)
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            texts = [output.get("text", "")]
            texts += [text for kind, text in output.get("data", {}).items() if "text" in kind]
            assert not any(ABSOLUTE.search(re.sub(r"base64,[^\"]+", "", str(t))) for t in texts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_says_what_one_learns_how_long_it_takes_and_what_it_is_not_for(path: Path) -> None:
    first = read(path).cells[0].source
    for promise in (
        "**You will learn**",
        "**It takes**",
        "For research and education, not for clinical use",
        "colab.research.google.com",
    ):
        assert promise in first
    assert "python app.py" in words(path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_folds_its_solutions(path: Path) -> None:
    text = words(path)
    exercises, solutions = text.split("## Your turn")[1].split("<details>")
    assert len(re.findall(r"^\d\. ", exercises, re.M)) >= 3
    assert len(re.findall(r"^\d\. ", solutions, re.M)) == len(
        re.findall(r"^\d\. ", exercises, re.M)
    )
    assert "</details>" in solutions


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_installs_this_version_on_colab_and_uses_public_names_alone(path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    assert f"cxr_peft_explorer-{version}-py3-none-any.whl" in code[0]
    assert 'find_spec("core") is None' in code[0]
    own = re.findall(r"^from (?:core|explorer)\S* import (.+)$", "\n".join(code), re.M)
    assert own
    assert not [name for name in ", ".join(own).split(", ") if name.startswith("_")]
