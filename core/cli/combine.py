"""Verbs that make a run of other runs: ``ensemble`` and ``soup``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.output import AsJson, Folder, NewName, answer, bar, opened, print_scores, run_details
from core.errors import CoreError

if TYPE_CHECKING:
    from core.config.run import RunSpec
    from core.reporter import Reporter
    from core.runs.run import Run
    from core.runs.store import Store
    from core.runs.worker import Execute
    from core.workspace import Workspace

Members = Annotated[list[str], typer.Argument(metavar="RUN…", help="Ids or names of runs.")]


def ensemble(
    runs: Members, folder: Folder = None, as_json: AsJson = False, name: NewName = None
) -> None:
    """Average the probabilities of several runs, and store the result as a run to compare."""
    from core.experiments.combine import combine_predictions, combined_spec

    workspace, store = opened(folder)
    members = [store.get(run) for run in runs]
    places = {run.id: workspace.run(run.id) for run in members}

    def execute(
        spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
    ) -> dict[str, Any]:
        return combine_predictions(spec, folder, places, report)

    spec = combined_spec("ensemble", members)
    run = _stored(spec, name, execute, store, workspace)
    _print(run, members, members, as_json)


def soup(
    runs: Members, folder: Folder = None, as_json: AsJson = False, name: NewName = None
) -> None:
    """Average the updates of several adapters, greedily by validation AUROC, and store a run."""
    import tempfile

    from core.experiments.combine import greedy_soup
    from core.reporter import NullReporter
    from core.training.imported import validation_auroc
    from core.training.loop import fine_tune
    from core.workspace import ADAPTER

    workspace, store = opened(folder)
    members = [store.get(run) for run in runs]
    with tempfile.TemporaryDirectory() as temporary, bar("adapters") as progress:
        tried = 0

        def score(spec: RunSpec, folder: Path) -> float:
            nonlocal tried
            tried += 1
            progress(tried, len(members) - 1)
            return validation_auroc(spec, folder, workspace.cache, NullReporter())

        made = greedy_soup(members, workspace, Path(temporary), score)
        lines = [f"Soup of {', '.join(f'{run.name} ({run.id})' for run in made.chosen)}."]
        lines += [f"With {run.name} ({run.id}): validation AUROC {auroc:.4f}."
                  for run, auroc in made.tried]  # fmt: skip

        def execute(
            spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
        ) -> dict[str, Any]:
            shutil.copytree(Path(temporary) / ADAPTER, folder / ADAPTER, dirs_exist_ok=True)
            for line in lines:
                report.log(line)
            return fine_tune(spec, folder, cache, report, resume=resume)

        run = _stored(made.spec, name, execute, store, workspace)
    _print(run, members, made.chosen, as_json)


def _stored(
    spec: RunSpec, name: str | None, execute: Execute, store: Store, workspace: Workspace
) -> Run:
    from core.runs import queue, worker

    run = queue.claim_here(store, spec, name=name)
    code = worker.work(store, workspace, run.id, execute)
    run = store.get(run.id)
    if code != 0 or run.scores is None:
        raise CoreError(
            f"The run {run.id} ended as {run.state}: {run.failure_reason or run.state}",
            run.failure_remedy or "",
        )
    return run


def _print(run: Run, members: list[Run], chosen: Any, as_json: bool) -> None:
    used = [{"id": each.id, "name": each.name} for each in chosen]

    def print_text() -> None:
        typer.echo(f"{run.id}  {run.name}")
        typer.echo(f"Used {len(used)} of {len(members)} runs: {', '.join(u['id'] for u in used)}.")
        print_scores(run)

    answer(run_details(run) | {"used": used}, as_json, print_text)
