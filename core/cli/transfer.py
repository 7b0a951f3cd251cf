"""The verb that measures what pre-training is worth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.execution import Teller, duration, ending_json, execute, say_ending
from core.cli.output import AsJson, Folder, answer, table
from core.cli.sweep import numbers
from core.errors import ConfigurationError

if TYPE_CHECKING:
    from core.config.run import DataSpec
    from core.experiments.transfer.grid import TransferRun
    from core.runs.store import Store
    from core.workspace import Workspace


def transfer(
    data: Annotated[
        str, typer.Option(help="Data sets, with a folder where one needs it: phantom-14,nih=DIR.")
    ] = "phantom-14",
    fractions: Annotated[str, typer.Option(help="Label fractions.")] = "0.01,0.1,1",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to N - 1.")] = 5,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run and how long it takes.")
    ] = False,
    judge: Annotated[
        bool, typer.Option("--judge", help="Say what the runs that are there say; run none.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the table, as Markdown.")] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file of figures: runs that it holds are not run again, new ones are added."
        ),
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Linear probe, LoRA and full fine-tuning from each shipped backbone, and from random weights.

    Ends with how LoRA stands against the other two, seed by seed, over the whole table.

    A set of your own is named as you registered it. What is done is not run again: stop it at any
    time, and the same command goes on.
    """
    from core.experiments.transfer import grid, pairwise_tests, results_csv
    from core.runs.store import open_store
    from core.workspace import open_workspace

    workspace = open_workspace(folder)
    store = open_store(workspace, create=True)
    shares = numbers(fractions, float, "--fractions")
    trips = grid.plan(_sets(data, workspace), seeds, shares)
    before = {} if figures is None else results_csv.read(figures)
    held = {
        trip: before[results_csv.key(trip)] for trip in trips if results_csv.key(trip) in before
    }
    value: dict[str, Any] = {}
    if dry_run or not judge:
        wanted = _wanted([trip for trip in trips if trip not in held], store, workspace)
        seconds = sum(one or 0.0 for _, one in wanted)
        typer.echo(
            f"{len(trips)} runs: {len(trips) - len(wanted)} done, {len(wanted)} to be run. "
            f"About {duration(seconds)}.",
            err=True,
        )
        if dry_run:
            value = {"runs": len(trips), "new": [one.name for one, _ in wanted], "seconds": seconds}
            answer(value, as_json, lambda: typer.echo("\n".join(value["new"])))
            return
        value = _carry_out(wanted, store, workspace)
    known = grid.figures(trips, store.list(), workspace) | held
    if figures is not None:
        written = before | {results_csv.key(trip): figure for trip, figure in known.items()}
        results_csv.write(figures, written, map(results_csv.key, trips))
    found, against = grid.rows(trips, known), pairwise_tests.tallies(trips, known)
    told = [pairwise_tests.sentence(one) for one in against]
    if out is not None:
        _write("\n\n".join([grid.markdown(found, shares), *told]), out)

    def show() -> None:
        table(grid.head(shares), [grid.cells(row, shares) for row in found])
        typer.echo("\n".join(["", *told]))

    against_json = [pairwise_tests.as_json(one) for one in against]
    answer({"rows": grid.as_json(found), "against": against_json} | value, as_json, show)
    if value.get("failed") or value.get("stopped"):
        raise typer.Exit(1)


def _sets(text: str, workspace: Workspace) -> list[DataSpec]:
    """The data sets that are named, with their folders."""
    from core.config.run import DataSpec
    from core.data.datasets.registered import resolved

    found = []
    for word in text.split(","):
        name, _, place = word.strip().partition("=")
        given = DataSpec(name=name, root=Path(place).expanduser().absolute() if place else None)
        found.append(resolved(workspace, given))
    return found


def _wanted(
    trips: Iterable[TransferRun], store: Store, workspace: Workspace
) -> list[tuple[TransferRun, float | None]]:
    """The runs that are not done, with the seconds they may take."""
    from core.experiments.cells import key, pick, standing
    from core.resources import estimate, preflight
    from core.runs.run import RunState

    runs = store.list()
    known = standing(runs)
    earlier = [(run.spec, run.seconds_alone) for run in runs if run.seconds_alone]
    priced: dict[str, float | None] = {}
    found = []
    for trip in trips:
        run = pick(known.get(key(trip.spec), ()), workspace)
        if run is not None and run.state is RunState.COMPLETED:
            continue
        alike = f"{trip.start} {trip.spec.adapter.method} {trip.spec.data.model_dump_json()}"
        if alike not in priced:
            preflight.check(trip.spec)
            told = estimate.estimate(trip.spec, workspace.cache, earlier)
            priced[alike] = told.seconds - told.starting - told.preparing
        found.append((trip, priced[alike]))
    return found


def _carry_out(
    wanted: list[tuple[TransferRun, float | None]], store: Store, workspace: Workspace
) -> dict[str, Any]:
    from core.experiments import run_grid

    teller = Teller({trip.name: seconds for trip, seconds in wanted})
    trips = [trip for trip, _ in wanted]
    ending = run_grid.run_grid(trips, store, workspace, execute, teller)
    say_ending(ending)
    return ending_json(ending)


def _write(text: str, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{out} cannot be written ({error.strerror or error}).", "Choose another place."
        ) from error
    typer.echo(f"Written: {out}", err=True)
