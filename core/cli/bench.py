"""``bench``: how fast runs are on this machine, against what people use today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.output import AsJson, answer, table

if TYPE_CHECKING:
    from core.benchmarks.measurement import Row


def bench(
    only: Annotated[
        str | None,
        typer.Option(help="One of end-to-end, parity, step, together and growth; by default all."),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=2, help="Epochs of the whole run; the study has 100.")
    ] = 10,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only show that it works; the figures say nothing.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print the ten dearest operations of one epoch.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write the figures, with versions, to this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time runs, training steps and growth beside their baselines, on a machine left alone."""
    from core.benchmarks.registry import BENCHMARKS, Scale, chosen

    if profile:
        from core.benchmarks.training_step import profile as one_epoch

        typer.echo(one_epoch())
        return
    names = list(chosen(only))
    import torch

    from core.benchmarks.measurement import versions

    scale = Scale(quick, epochs, torch.cuda.is_available())
    found: list[Row] = []
    for name in names:
        typer.echo(f"Measuring {name} …", err=True)
        found += BENCHMARKS[name](scale)
    value = [one.as_json() for one in found]
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        told = {"versions": versions(), "quick": quick, "rows": value}
        out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    answer(value, as_json, lambda: _table(found))


def _table(found: list[Row]) -> None:
    head = ("name", "ours", "baseline", "unit", "ratio", "beside it")
    table(head, [
        (one.name, f"{one.ours:.4g}", f"{one.baseline:.4g}", one.unit, f"{one.ratio:.2f}",
         _beside(one))
        for one in found
    ])  # fmt: skip
    typer.echo(f"On {found[0].device}." if found else "Nothing was measured.")


def _beside(row: Row) -> str:
    said = []
    for name, value in row.more.items():
        if name.endswith("spread"):
            said.append(f"{name.replace('_', ' ')} {value[0]:.3g} to {value[1]:.3g}")
        elif name.endswith(("auroc", "seconds")) or name.startswith("share"):
            said.append(f"{name.replace('_', ' ')} {value:.3f}")
    return ", ".join(said)
