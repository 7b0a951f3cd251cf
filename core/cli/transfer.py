"""The verb ``transfer``: measures what pre-training is worth for each tuning method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.execution import (
    GridProgress,
    choose_settings,
    execute,
    grid_result_json,
    print_grid_result,
)
from core.cli.output import AsJson, Folder, answer, table, write_text
from core.config.number_lists import numbers
from core.formatting import duration

if TYPE_CHECKING:
    from core.config.run import DataSpec
    from core.experiments.transfer.grid import TransferResult, TransferRun
    from core.experiments.transfer.pairwise_tests import Summary
    from core.runs.store import Store
    from core.workspace import Workspace


DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the runs and how long they take; run none.")
]
Judge = Annotated[
    bool, typer.Option("--judge", help="Report the results of completed runs; run none.")
]
Figures = Annotated[
    Path | None,
    typer.Option(
        help="CSV file of results: runs that it contains are not run again, new results are added."
    ),
]


def transfer(
    data: Annotated[
        str, typer.Option(help="Data sets, with their folder where needed: phantom-14,nih=DIR.")
    ] = "phantom-14",
    fractions: Annotated[str, typer.Option(help="Label fractions.")] = "0.01,0.1,1",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0 to N - 1.")] = 5,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="Also run each method with a tuned learning rate.")
    ] = False,
    trials: Annotated[int, typer.Option(min=1, help="--tuned: trials of each setting.")] = 8,
    dry_run: DryRun = False,
    judge: Judge = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write the table to this Markdown file.")
    ] = None,
    figures: Figures = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Probes, LoRA and full fine-tuning from each shipped backbone and from random weights.

    Ends with a comparison of LoRA with the other methods, seed by seed, over the whole table.

    A data set of your own is given by its registered name. Completed runs are not run again: stop
    at any time and continue with the same command.
    """
    from core.experiments.transfer import results_csv
    from core.experiments.transfer.grid import completed_results, transfer_runs
    from core.experiments.transfer.pairwise_tests import lora_summaries
    from core.experiments.transfer.tuned import plan_of, tuned_cells, with_choices
    from core.runs.store import open_store
    from core.workspace import open_workspace

    workspace = open_workspace(folder)
    store = open_store(workspace, create=True)
    shares = numbers(fractions, float, "--fractions")
    cells = transfer_runs(_data_sets(data, workspace), seeds, shares)
    to_tune = tuned_cells(cells) if tuned else []
    stored = {} if figures is None else results_csv.read(figures)
    stored_tests = {} if figures is None else results_csv.read_tests(figures)
    missing = [cell for cell in to_tune if results_csv.key(cell) not in stored]
    plans = {plan.name: plan for plan in (plan_of(cell, trials) for cell in missing)}
    if not (dry_run or judge):
        choose_settings(plans.values(), store, workspace)
    chosen = with_choices(missing, workspace, trials)
    cells = [*cells, *(chosen.get(cell, cell) for cell in to_tune)]
    keys = {cell: results_csv.key(cell) for cell in cells}
    known = {cell: stored[key] for cell, key in keys.items() if key in stored}
    value: dict[str, Any] = {}
    if dry_run or not judge:
        expected = _remaining([cell for cell in cells if cell not in known], store, workspace)
        seconds = sum(each or 0.0 for each in expected.values())
        untuned = {plan_of(cell, trials).name for cell in missing if cell not in chosen}
        _print_plan(len(cells), len(expected), seconds, len(untuned) * trials)
        if dry_run:
            names = [cell.name for cell in expected]
            value = {"runs": len(cells), "new": names, "seconds": seconds}
            value["trials"] = len(untuned) * trials
            answer(value, as_json, lambda: typer.echo("\n".join(names)))
            return
        value = _run(expected, store, workspace)
    missing_choice = {cell for cell in missing if cell not in chosen}
    done = [cell for cell in cells if cell not in missing_choice]
    results = completed_results(done, store.list(), workspace) | known
    summaries = lora_summaries(cells, results, stored_tests)
    if figures is not None:
        written = stored | {keys[cell]: result for cell, result in results.items()}
        results_csv.write(figures, written, keys.values())
        results_csv.write_tests(figures, stored_tests, summaries)
    _report(cells, results, summaries, shares, value, out, as_json)
    if value.get("failed") or value.get("stopped"):
        raise typer.Exit(1)


def _data_sets(text: str, workspace: Workspace) -> list[DataSpec]:
    """Parse the list of data sets, with their folders."""
    from core.config.run import DataSpec
    from core.data.datasets.registered import resolved

    data_sets = []
    for word in text.split(","):
        name, _, root = word.strip().partition("=")
        data = DataSpec(name=name, root=Path(root).expanduser().absolute() if root else None)
        data_sets.append(resolved(workspace, data))
    return data_sets


def _remaining(
    cells: Sequence[TransferRun], store: Store, workspace: Workspace
) -> dict[TransferRun, float | None]:
    """Runs that are not completed, with their expected seconds."""
    from core.experiments.cells import cell_key, runs_by_cell, select_run
    from core.resources import estimate, preflight
    from core.runs.run import RunState

    runs = store.list()
    known = runs_by_cell(runs)
    earlier = [(run.spec, run.seconds_alone) for run in runs if run.seconds_alone]
    costs: dict[str, float] = {}
    remaining: dict[TransferRun, float | None] = {}
    for cell in cells:
        run = select_run(known.get(cell_key(cell.spec), ()), workspace)
        if run is not None and run.state is RunState.COMPLETED:
            continue
        same = f"{cell.start} {cell.spec.adapter.method} {cell.spec.data.model_dump_json()}"
        if same not in costs:
            preflight.check(cell.spec)
            cost = estimate.estimate(cell.spec, workspace.cache, earlier)
            costs[same] = cost.seconds - cost.starting - cost.preparing
        remaining[cell] = costs[same]
    return remaining


def _print_plan(count: int, remaining: int, seconds: float, trials: int) -> None:
    before = f" After {trials} trials, which are not in this time." if trials else ""
    typer.echo(
        f"{count} runs: {count - remaining} completed, {remaining} to be run. "
        f"About {duration(seconds)}.{before}",
        err=True,
    )


def _run(
    expected: Mapping[TransferRun, float | None], store: Store, workspace: Workspace
) -> dict[str, Any]:
    from core.experiments.run_grid import run_grid

    progress = GridProgress({cell.name: seconds for cell, seconds in expected.items()})
    result = run_grid(expected, store, workspace, execute, progress)
    print_grid_result(result)
    return grid_result_json(result)


def _report(
    cells: Sequence[TransferRun],
    results: Mapping[TransferRun, TransferResult],
    summaries: Sequence[Summary],
    shares: Sequence[float],
    value: dict[str, Any],
    out: Path | None,
    as_json: bool,
) -> None:
    """Print the table and the comparisons, and write them to ``out``."""
    from core.experiments.transfer import grid, pairwise_tests

    rows = grid.table_rows(cells, results)
    sentences = [pairwise_tests.sentence(summary) for summary in summaries]
    if out is not None:
        write_text(out, "\n\n".join([grid.markdown(rows, shares), *sentences]))

    def print_text() -> None:
        table(grid.column_names(shares), [grid.row_texts(row, shares) for row in rows])
        typer.echo("\n".join(["", *sentences]))

    against = [pairwise_tests.as_json(summary) for summary in summaries]
    answer({"rows": grid.as_json(rows), "against": against} | value, as_json, print_text)
