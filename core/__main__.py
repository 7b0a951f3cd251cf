"""The command line: ``python -m core VERB``, as complete as the explorer.

Every verb takes ``--workspace DIR``; with ``--json`` it prints one JSON value on standard output,
and progress goes to standard error. Only this file and ``core.cli`` compose all the others.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli import data as data_verbs
from core.cli import data_names as name_verbs  # noqa: F401 - adds to the group `data`
from core.cli import data_splits as split_verbs  # noqa: F401 - adds to the group `data`
from core.cli import export as exchange
from core.cli import models as model_verbs
from core.cli import paper as paper_verb
from core.cli import queue as queueing
from core.cli import sweep as sweeping
from core.cli import transfer as transfer_verb
from core.cli.bench import bench
from core.cli.execution import beside_main, carry_out_together, execute, follow
from core.cli.list_methods import list_methods
from core.cli.options import with_settings
from core.cli.output import AsJson, Folder, RunName, answer, bar, opened, summary, table
from core.cli.pretrain import pretrain
from core.cli.saliency_report import saliency_report
from core.errors import CoreError
from core.startup import spare_garbage
from core.workspace import STORE, VARIABLE

if TYPE_CHECKING:
    from core.config.run import RunSpec
    from core.runs.store import Run

app = typer.Typer(
    name="core",
    help="Fine-tune chest-radiograph foundation models with few labels, and compare the ways. "
    "For research and education, not for clinical use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def every_verb(
    store: Annotated[
        str | None,
        typer.Option(
            envvar=STORE,
            show_envvar=True,
            help="Keep the store in PostgreSQL, postgresql+psycopg://user@host/name, and not in "
            "the workspace; stands before the verb.",
        ),
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(help="Folder of the store, runs and caches; may stand after the verb too."),
    ] = None,
) -> None:
    """What holds for every verb."""
    if store:
        os.environ[STORE] = store
    if workspace:
        os.environ[VARIABLE] = str(workspace)


def main() -> None:
    """Run the command line; faults a user can mend end as one sentence and exit code 1."""
    spare_garbage()
    try:
        app()
    except CoreError as error:
        typer.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from None
    except BrokenPipeError:
        raise SystemExit(141) from None


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


# --- what there is -------------------------------------------------------------------------------

names = typer.Typer(help="List what can be chosen.", no_args_is_help=True)
app.add_typer(names, name="list")
app.add_typer(data_verbs.app, name="data")
app.add_typer(model_verbs.app, name="models")
app.command("paper")(paper_verb.paper)
app.command("transfer")(transfer_verb.transfer)
app.command("bench")(bench)


@names.command("backbones")
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


@names.command("datasets")
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


names.command("methods")(list_methods)


# --- runs ----------------------------------------------------------------------------------------


def _validated(spec: RunSpec) -> RunSpec:
    """Refuse names and folders that cannot work before a run is made of them."""
    from core.resources.preflight import check

    check(spec)
    return spec


@app.command("train")
@with_settings(recipes=True)
def train_here(
    spec: RunSpec, folder: Folder = None, as_json: AsJson = False, name: str | None = None
) -> None:
    """Train here and now, with a progress bar, to the test AUROC per finding."""
    from core.cli.progress_bar import ProgressBar
    from core.runs import queue, worker
    from core.workspace import open_workspace

    if beside_main():
        workspace = open_workspace(folder)
        raise typer.Exit(follow(spec, workspace.root, workspace.cache))
    _validated(spec)
    workspace, store = opened(folder)
    run = queue.claim_here(store, spec, name=name)
    with ProgressBar(run.name) as bar:
        code = worker.work(store, workspace, run.id, execute, observer=bar)
    run = store.get(run.id)
    if code != 0:
        reason = f"{run.failure_reason or run.state} {run.failure_remedy or ''}".strip()
        raise CoreError(f"The run {run.id} ended as {run.state}: {reason}")
    if run.scores is None:
        typer.echo(f"The run is {run.state}; to go on: resume {run.id}, then serve.", err=True)
    answer(_result(run), as_json, lambda: _print_scores(run))


@app.command()
@with_settings(recipes=True)
def submit(
    spec: RunSpec,
    folder: Folder = None,
    as_json: AsJson = False,
    name: str | None = None,
    priority: Annotated[int, typer.Option(help="Runs of a higher one start first.")] = 0,
    after: Annotated[
        str | None, typer.Option(help="Start only when this run is completed.")
    ] = None,
) -> None:
    """Put a run into the queue; the explorer or ``serve`` starts it."""
    from core.runs import queue

    _validated(spec)
    _, store = opened(folder)
    other = store.get(after).id if after else None
    run = queue.submit(store, spec, name=name, priority=priority, after=other)
    answer(summary(run), as_json, lambda: typer.echo(f"Queued {run.id}: {run.name}"))


@app.command()
@with_settings()
def prepare(
    spec: RunSpec,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Decode the pictures of one run now, so that it starts at once; see also ``data cache``."""
    from core.training import warm_cache as preparation
    from core.workspace import open_workspace

    with bar("pictures") as progress:
        found = preparation.prepare(spec, open_workspace(folder).cache, progress)
    answer(found, as_json, lambda: typer.echo(
        f"{found['pictures']:,} pictures, {found['made']:,} of them made now."
    ))  # fmt: skip


@app.command()
def runs(folder: Folder = None, as_json: AsJson = False) -> None:
    """List all runs, the latest first."""
    _, store = opened(folder)
    found = [summary(run) for run in store.list()]
    answer(found, as_json, lambda: table(
        ("id", "state", "val AUROC", "test AUROC", "name"),
        [
            (r["id"], r["state"], _points(r["best_auroc"]), _points(r["test_auroc"]), r["name"])
            for r in found
        ],
    ))  # fmt: skip


def _result(run: Run) -> dict[str, Any]:
    return summary(run) | {
        "spec": json.loads(run.spec.to_json()),
        "scores": run.scores,
        "environment": run.environment,
        "failure_kind": run.failure_kind,
        "failure_remedy": run.failure_remedy,
        "traceback": run.traceback,
        "attempts": run.attempts,
        "exit_code": run.exit_code,
        "host": run.host,
        "pid": run.pid,
        "heartbeat_at": run.heartbeat_at,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "priority": run.priority,
        "after": run.after,
        "slot": run.slot,
        "log": run.log,
    }


@app.command()
def show(run: RunName, folder: Folder = None, as_json: AsJson = False) -> None:
    """Show one run: settings, scores, environment."""
    from core.resources import memory
    from core.workspace import RESULT, SUBSET

    workspace, store = opened(folder)
    found = store.get(run)
    value = _result(found) | {"metric_rows": store.count_metrics(found.id)}
    listed = workspace.run(found.id) / SUBSET
    value["subset"] = str(listed) if listed.exists() else None
    file = workspace.run(found.id) / RESULT
    if file.exists():
        result = json.loads(file.read_text())
        value["weights_sha256"] = result["weights_sha256"]
        value["memory"] = memory.told(result)

    def human() -> None:
        for key in ("id", "name", "state", "phase", "best_auroc", "trainable", "total", "seconds"):
            typer.echo(f"{key:12} {value[key]}")
        if found.failure_reason:
            typer.echo(f"{'failed':12} {found.failure_reason} {found.failure_remedy or ''}")
        if value.get("memory"):
            typer.echo(f"{'memory':12} {value['memory']}")
        _print_scores(found)

    answer(value, as_json, human)


@app.command()
def delete(run: RunName, folder: Folder = None, as_json: AsJson = False) -> None:
    """Delete a run that is not active, with its folder."""
    _, store = opened(folder)
    found = store.get(run)
    store.delete(found.id)
    answer({"deleted": found.id}, as_json, lambda: typer.echo(f"Deleted {found.id}."))


@app.command()
def evaluate(
    run: RunName,
    split: str = "test",
    against: Annotated[
        str | None, typer.Option(help="Another run on the same studies, to be compared with.")
    ] = None,
    rule: Annotated[
        str, typer.Option(help="Threshold on validation: youden, sensitivity or specificity.")
    ] = "youden",
    target: Annotated[
        float, typer.Option(min=0, max=1, help="Sensitivity or specificity to reach.")
    ] = 0.9,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Score a finished run on a split: AUROC with 95% intervals, calibration, subgroups."""
    from core.evaluation import evaluate as evaluation

    workspace, store = opened(folder)
    place = workspace.run(store.get(run).id)
    if against is not None:
        found = evaluation.compare(place, workspace.run(store.get(against).id), split)
        answer(
            evaluation.as_json(found),
            as_json,
            lambda: typer.echo(evaluation.difference_text(found)),
        )
        return
    scores = evaluation.evaluate(place, split, rule=evaluation.rule_of(rule), target=target)
    value = evaluation.as_json(scores)
    answer(value, as_json, lambda: typer.echo(evaluation.as_text(scores)))


@app.command()
def explain(
    run: RunName,
    finding: Annotated[str, typer.Option(help="Which output to explain.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    study: Annotated[str | None, typer.Option(help="A study of the run's data set.")] = None,
    image: Annotated[Path | None, typer.Option(help="A PNG, JPEG or DICOM file.")] = None,
    method: str = "grad-cam",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Draw where a run's model looks for a finding: original, map and overlay as a PNG."""
    from core.saliency import request

    workspace, store = opened(folder)
    found = request.explain_run(
        workspace.run(store.get(run).id), finding, study=study, image=image, method=method
    )
    request.draw(found, out)
    value = request.as_json(found) | {"out": str(out)}
    answer(value, as_json, lambda: typer.echo(request.as_text(found) + f"\nWritten to {out}."))


app.command("saliency-report")(saliency_report)
app.command("export")(exchange.export)
app.command("import-adapter")(exchange.import_adapter)
app.command()(sweeping.sweep)
for _verb in (queueing.queue, queueing.move, queueing.after, queueing.stop, queueing.resume):
    app.command()(_verb)
app.command("serve")(queueing.serve)


@app.command()
def work(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Id or name.")],
    folder: Folder = None,
) -> None:
    """Carry out one run of the store, or several together: what a job's process runs."""
    from core.runs import joint_worker as group
    from core.runs import worker
    from core.runs.store import open_store
    from core.workspace import open_workspace

    workspace = open_workspace(folder)
    store = open_store(workspace, create=False)
    if len(runs) > 1:
        raise typer.Exit(group.work(store, workspace, runs, carry_out_together))
    if beside_main():
        known = store.get(runs[0])
        raise typer.Exit(follow(known.spec, workspace.run(known.id), workspace.cache))
    raise typer.Exit(worker.work(store, workspace, runs[0], execute))


app.command()(pretrain)


def _print_scores(run: Run) -> None:
    scores = run.scores or {}
    findings = list((scores.get("test") or scores.get("val") or {}).get("per_finding", {}))
    columns = [split for split in ("val", "test") if split in scores]
    rows = [
        (finding, *(_points(scores[split]["per_finding"][finding]) for split in columns))
        for finding in findings
    ]
    if rows:
        rows.append(("mean", *(_points(scores[split]["auroc"]) for split in columns)))
        table(("finding", *(f"{split} AUROC" for split in columns)), rows)
    typer.echo("For research and education, not for clinical use.")


if __name__ == "__main__":
    main()
