"""Run the notebooks in full, say how long each took, and keep their outputs.

    python -m tests.benchmarks.notebooks [--keep] [NAME …]

All share a new workspace, in their order. ``--keep`` stores their outputs without what belongs to
this machine.
"""

import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from core.workspace import open_workspace
from tests.test_notebooks import MOST_BYTES, NOTEBOOKS, execute


def main(arguments: list[str]) -> None:
    """Run those that are named, or all."""
    keep, names = "--keep" in arguments, [one for one in arguments if one[0] != "-"]
    with tempfile.TemporaryDirectory() as folder:
        workspace = open_workspace(folder)
        for path in NOTEBOOKS:
            if names and not any(path.stem.startswith(one) for one in names):
                continue
            started = time.perf_counter()
            book = execute(path, workspace, fast=False)
            seconds = time.perf_counter() - started
            tidy(book, workspace.root)
            text = nbformat.writes(book)
            size = len(text.encode())
            print(f"{path.stem:40} {seconds:6.0f} s  {size / 1e6:.2f} MB", flush=True)
            if keep and size <= MOST_BYTES:
                path.write_text(text + "\n", encoding="utf-8")


def tidy(book: NotebookNode, root: Path) -> None:
    """Take out what says when and where it was run."""
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in book.cells:
        cell.metadata = {}
        if "outputs" in cell:  # warnings are this machine's, and name its folders
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            for holder in (output, output.get("data", {})):
                for kind, value in list(holder.items()):
                    if isinstance(value, str) and (kind == "text" or kind.startswith("text/")):
                        holder[kind] = re.sub(re.escape(str(root)), "WORKSPACE", value)


if __name__ == "__main__":
    main(sys.argv[1:])
