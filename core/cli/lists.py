"""Commands that list backbones, data sets and tuning methods."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from core.cli.list_methods import list_methods
from core.cli.output import AsJson, answer, table

app = typer.Typer(help="List backbones, data sets and tuning methods.", no_args_is_help=True)


@app.command("backbones")
def list_backbones(as_json: AsJson = False) -> None:
    """List backbones with input size, source of the weights and pre-training data."""
    from core.models.backbones.card import WEIGHTS
    from core.models.backbones.registry import BACKBONES
    from core.models.backbones.timm_cards import SUGGESTED

    cards = [asdict(card) for card in BACKBONES.values()]

    def human() -> None:
        table(
            ("name", "px", "weights", "pre-trained on"),
            [
                (c["name"], str(c["input_size"]), WEIGHTS[c["source"]], c["pretraining"])
                for c in cards
            ],
        )
        typer.echo(
            "Any timm model, pre-trained on photographs, from the Hugging Face Hub, such as:"
        )
        for title, name in SUGGESTED.items():
            typer.echo(f"  {name:44}{title}")
        typer.echo("Licence, paper and known leaks of each backbone: list backbones --json.")

    answer(cards, as_json, human)


@app.command("datasets")
def list_datasets(as_json: AsJson = False) -> None:
    """List data sets with their findings and whether they need a folder."""
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
