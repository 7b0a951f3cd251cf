"""The notebooks run from top to bottom, show what the store holds, and are kept without outputs."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from core.runs.store import open_store
from core.workspace import VARIABLE, Workspace

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SECONDS_A_CELL = 1200
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|work|tmp|Users|mnt|data)/|\b[A-Z]:\\", re.I)


def read(path: Path) -> NotebookNode:
    book: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return book


def execute(path: Path, workspace: Workspace) -> NotebookNode:
    """Run a notebook in a kernel of its own, whose workspace and settings are the test's."""
    book = read(path)
    env = os.environ | {
        VARIABLE: str(workspace.root),
        "CXR_QUICK": "1",
        "IPYTHONDIR": str(workspace.root / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    client = NotebookClient(
        book,
        timeout=SECONDS_A_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(workspace.root)}},
    )
    client.execute(env=env)
    return book


def shown(book: NotebookNode, kind: str) -> list[str]:
    """What the cells displayed in one format."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def test_there_is_a_notebook_to_start_with() -> None:
    assert "01_quickstart" in [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom_and_shows_the_aurocs_of_its_runs(
    path: Path, workspace: Workspace
) -> None:
    book = execute(path, workspace)
    store = open_store(workspace, create=False)
    runs = store.list()
    store.close()
    assert runs
    assert {str(run.state) for run in runs} == {"completed"}
    tables = "\n".join(shown(book, "text/html"))
    for run in runs:
        assert run.scores is not None
        test = run.scores["test"]
        for auroc in (test["auroc"], *test["per_finding"].values()):
            assert re.search(rf"{auroc:.3f} \(0\.\d{{3}} to [01]\.\d{{3}}\)", tables)
    assert len(shown(book, "image/png")) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_without_outputs_and_without_places_of_a_machine(path: Path) -> None:
    for cell in read(path).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert set(cell.metadata) <= {"tags"}
        assert not ABSOLUTE.search(cell.source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_says_what_it_is_not_for(path: Path) -> None:
    words = " ".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert "For research and education, not for clinical use" in words
