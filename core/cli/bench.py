"""The verb ``bench``: speed of this software compared with common baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.output import AsJson, answer, table, write_text

if TYPE_CHECKING:
    from core.benchmarks.measurement import Row


def bench(
    only: Annotated[
        str | None,
        typer.Option(help="One of end-to-end, parity, step, together and growth; by default all."),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=2, help="Epochs of the whole run; the paper uses 100.")
    ] = 10,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Only test that the benchmarks work; the times are not meaningful."
        ),
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print the ten slowest operations of one epoch.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write the results, with versions, to this JSON file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure runs, training steps and scaling against baselines, on an otherwise idle machine."""
    from core.benchmarks.registry import BENCHMARKS, Scale, chosen

    if profile:
        from core.benchmarks.training_step import profile as profile_epoch

        typer.echo(profile_epoch())
        return
    names = list(chosen(only))
    import torch

    from core.benchmarks.measurement import versions

    scale = Scale(quick, epochs, torch.cuda.is_available())
    rows: list[Row] = []
    for name in names:
        typer.echo(f"Measuring {name} …", err=True)
        rows += BENCHMARKS[name](scale)
    value = [row.as_json() for row in rows]
    if out is not None:
        content = {"versions": versions(), "quick": quick, "rows": value}
        write_text(out, json.dumps(content, indent=1))
    answer(value, as_json, lambda: _print_rows(rows))


def _print_rows(rows: list[Row]) -> None:
    head = ("name", "ours", "baseline", "unit", "ratio", "details")
    table(head, [
        (row.name, f"{row.ours:.4g}", f"{row.baseline:.4g}", row.unit, f"{row.ratio:.2f}",
         _details(row))
        for row in rows
    ])  # fmt: skip
    typer.echo(f"On {rows[0].device}." if rows else "Nothing was measured.")


def _details(row: Row) -> str:
    details = []
    for name, value in row.more.items():
        if name.endswith("spread"):
            details.append(f"{name.replace('_', ' ')} {value[0]:.3g} to {value[1]:.3g}")
        elif name.endswith(("auroc", "seconds")) or name.startswith("share"):
            details.append(f"{name.replace('_', ' ')} {value:.3f}")
    return ", ".join(details)
