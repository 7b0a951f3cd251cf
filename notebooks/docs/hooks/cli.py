"""Writes the help of every verb into the page of the command line when the site is built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent.parent
PLACE = "<!-- every verb -->"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put what typer writes of the command line in its place."""
    if PLACE not in markdown:
        return markdown
    command = [sys.executable, "-m", "typer", "core.cli.app", "utils", "docs"]
    written = subprocess.run(
        [*command, "--name", "python -m core"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return markdown.replace(PLACE, written.replace("\n# ", "\n## ").removeprefix("# "))
