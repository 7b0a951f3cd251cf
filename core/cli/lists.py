"""Verbs that list what can be chosen: backbones, data sets, methods."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from core.cli.list_methods import list_methods
from core.cli.output import AsJson, answer, table

app = typer.Typer(help="List what can be chosen.", no_args_is_help=True)


@app.command("backbones")
def list_backbones(as_json: AsJson = False) -> None:
    """Backbones with input size, licence and pre-training data."""
    from core.models.backbones.registry import BACKBONES, SUGGESTED, WEIGHTS

    cards = [asdict(card) for card in BACKBONES.values()]

    def human() -> None:
        table(
            ("name", "px", "weights", "pre-trained on"),
            [
                (c["name"], str(c["input_size"]), WEIGHTS[c["source"]], c["pretraining"])
                for c in cards
            ],
        )
        typer.echo("Any timm model by its name, of photographs, from the hub, such as:")
        for title, name in SUGGESTED.items():
            typer.echo(f"  {name:44}{title}")
        typer.echo("Licence, paper and known leaks of each: list backbones --json.")

    answer(cards, as_json, human)


@app.command("datasets")
def list_datasets(as_json: AsJson = False) -> None:
    """Data sets with their findings and terms."""
    from core.data.datasets.registry import DATASETS

    entries: list[dict[str, Any]] = [
        {
            "name": name,
            "title": entry.title,
            "findings": list(entry.findings),
            "needs_root": entry.needs_root,
            "splits": list(entry.splits),
            "licence": entry.licence,
        }
        for name, entry in DATASETS.items()
    ]
    answer(entries, as_json, lambda: table(
        ("name", "findings", "folder", "title"),
        [
            (e["name"], str(len(e["findings"])), "--root" if e["needs_root"] else "–", e["title"])
            for e in entries
        ],
    ))  # fmt: skip


app.command("methods")(list_methods)
