"""Verbs on a finished run: its scores, and a saliency map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.cli.output import AsJson, Folder, RunName, answer, opened


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
        found = evaluation.compare_runs(place, workspace.run(store.get(against).id), split)
        answer(
            evaluation.as_json(found),
            as_json,
            lambda: typer.echo(evaluation.difference_text(found)),
        )
        return
    scores = evaluation.evaluate_run(place, split, rule=evaluation.rule_of(rule), target=target)
    value = evaluation.as_json(scores)
    answer(value, as_json, lambda: typer.echo(evaluation.as_text(scores)))


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
