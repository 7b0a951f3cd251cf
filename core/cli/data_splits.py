"""Verbs on the splits of data sets: write a list of studies, compare two data sets' splits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.data import app
from core.cli.options import with_data
from core.cli.output import AsJson, Folder, answer, table
from core.config.run import DataSpec


@app.command("subset")
@with_data()
def write_subset(
    data: DataSpec,
    out: Annotated[Path, typer.Option(help="File to write, in the format of MED-PEFT's lists.")],
    fraction: Annotated[float, typer.Option(help="Share of the training images.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws the patients.")] = 0,
    part: Annotated[str, typer.Option(help="train, or val or test as a whole.")] = "train",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write the studies that a label fraction selects, or a split, as a list for --split-file."""
    from core.data import splits
    from core.data.datasets.registry import open_data

    dataset = open_data(data)
    drawn = part == "train"
    ids = splits.subset(dataset, fraction, seed) if drawn else dataset.ids(part)
    splits.write_list(out, dataset, ids)
    value = {
        "images": len(ids),
        "of": len(dataset.ids(part)),
        "patients": int(dataset.table.loc[ids, "patient"].nunique()),
        "positives": splits.positives(dataset, ids),
        "out": str(out),
    }
    answer(value, as_json, lambda: typer.echo(
        f"{value['images']:,} of {value['of']:,} images of {value['patients']:,} patients, "
        f"written to {out}."
    ))  # fmt: skip


@app.command("compare-splits")
def compare_splits(
    first: Annotated[str, typer.Argument(help="A data set, or the name of a registered one.")],
    second: Annotated[str, typer.Argument(help="Another.")],
    root_a: Annotated[Path | None, typer.Option(help="Folder of the first.")] = None,
    root_b: Annotated[Path | None, typer.Option(help="Folder of the second.")] = None,
    split_a: Annotated[str | None, typer.Option(help="Split of the first.")] = None,
    split_b: Annotated[str | None, typer.Option(help="Split of the second.")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Say, from labels in order, whether two data sets are the same pictures in the same splits."""
    from core.data.checks import split_comparison
    from core.data.datasets.registered import resolved
    from core.data.datasets.registry import open_data
    from core.workspace import workspace_at

    workspace = workspace_at(folder)
    asked = ((first, root_a, split_a), (second, root_b, split_b))
    opened = [
        open_data(
            resolved(
                workspace,
                DataSpec(name=name, root=root and root.expanduser().absolute(), split=split),
            )
        )
        for name, root, split in asked
    ]
    found = split_comparison.compare(*opened)
    value: dict[str, Any] = asdict(found) | {"same": found.same, "sentence": found.sentence()}

    def human() -> None:
        typer.echo(f"A: {found.titles[0]}\nB: {found.titles[1]}")
        typer.echo(f"Findings in common: {', '.join(found.findings)}")
        table(
            ("split", "A", "B", "agree in order", "by chance", "agree in any order", "verdict"),
            [
                (
                    one.split, f"{one.counts[0]:,}", f"{one.counts[1]:,}", _percent(one.agreeing),
                    _percent(one.chance), _percent(one.shared), one.verdict,
                )
                for one in found.splits
            ],
        )  # fmt: skip
        typer.echo(found.sentence())

    answer(value, as_json, human)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"
