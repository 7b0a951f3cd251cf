"""MkDocs hooks: numbers from stored results, the help of every command, and images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from explorer.pages.help.stored_results import expand

ROOT = Path(__file__).parents[2]
COMMANDS = "<!-- every command -->"


def on_files(files: Any, config: Any) -> Any:
    """Add the images and result files that pages show or link to."""
    for folder in ("images", "results"):
        for path in sorted((ROOT / "assets" / folder).iterdir()):
            address = f"assets/{folder}/{path.name}"
            files.append(File.generated(config, address, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the stored results and the help of the command line."""
    # On GitHub the same links lead to the files in the repository.
    text = expand(markdown).replace("](../assets/", "](assets/")
    return text.replace(COMMANDS, help_of_commands()) if COMMANDS in text else text


def help_of_commands() -> str:
    """The help of every command, as Markdown."""
    program = [sys.executable, "-m", "typer", "core.cli.app", "utils", "docs"]
    written = subprocess.run(
        [*program, "--name", "python -m core"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return written.replace("\n# ", "\n## ").removeprefix("# ")
