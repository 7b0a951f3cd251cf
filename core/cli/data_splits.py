"""Command ``data subset``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.cli.data import app
from core.cli.options import with_data
from core.cli.output import AsJson, Folder, answer
from core.config.run import DataSpec


@app.command("subset")
@with_data()
def write_subset(
    data: DataSpec,
    out: Annotated[Path, typer.Option(help="File to write, as MED-PEFT's split lists.")],
    fraction: Annotated[float, typer.Option(help="Share of the training images.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws the patients.")] = 0,
    part: Annotated[str, typer.Option(help="train, or all of val or test.")] = "train",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write the studies of a label fraction, or of a split, to a list for --split-file."""
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
        f"Wrote {value['images']:,} of {value['of']:,} images of {value['patients']:,} patients "
        f"to {out}."
    ))  # fmt: skip
