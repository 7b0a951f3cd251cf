"""Verbs on a completed run: ``evaluate`` its predictions, ``explain`` one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.cli.output import AsJson, Folder, RunName, answer, opened


def evaluate(
    run: RunName,
    split: str = "test",
    against: Annotated[
        str | None, typer.Option(help="Another run, to compare with on the same studies.")
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            help="Rule for the operating point on validation: prevalence (as many studies are "
            "positive as are labelled), youden, sensitivity or specificity."
        ),
    ] = "prevalence",
    target: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Sensitivity or specificity that the rule of that name reaches."
        ),
    ] = 0.9,
    prevalence: Annotated[
        float | None,
        typer.Option(
            help="Prevalence of the findings where the model is used, for PPV, NPV and net "
            "benefit, such as 0.02; by default that of each finding in the split."
        ),
    ] = None,
    folds: Annotated[
        bool,
        typer.Option("--folds", help="Join the predictions of all folds of its cross-validation."),
    ] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Score a completed run on a split: AUROC with 95% intervals, calibration, subgroups."""
    from core.evaluation import evaluate as evaluation
    from core.experiments.folds import joined_trial

    workspace, store = opened(folder)
    run_folder, others = workspace.run(store.get(run).id), list[Path]()
    if folds:
        run_folder, *others = joined_trial(store.get(run).spec, store, workspace).folders
    if against is not None:
        other = workspace.run(store.get(against).id)
        difference = evaluation.compare_runs(run_folder, other, split)
        answer(
            evaluation.as_json(difference),
            as_json,
            lambda: typer.echo(evaluation.difference_text(difference)),
        )
        return
    scores = evaluation.evaluate_run(
        run_folder,
        split,
        rule=evaluation.rule_of(rule),
        target=target,
        others=others,
        prevalence=prevalence,
    )
    value = evaluation.as_json(scores)
    answer(value, as_json, lambda: typer.echo(evaluation.as_text(scores)))


def explain(
    run: RunName,
    finding: Annotated[str, typer.Option(help="Finding whose output is explained.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    study: Annotated[str | None, typer.Option(help="Id of a study in the run's data set.")] = None,
    image: Annotated[Path | None, typer.Option(help="A PNG, JPEG or DICOM file.")] = None,
    method: str = "grad-cam",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write the saliency map of a finding as a PNG: radiograph, map and overlay."""
    from core.saliency import request

    workspace, store = opened(folder)
    explanation = request.explain_run(
        workspace.run(store.get(run).id), finding, study=study, image=image, method=method
    )
    request.draw(explanation, out)
    value = request.as_json(explanation) | {"out": str(out)}
    text = f"{request.as_text(explanation)}\nWritten to {out}."
    answer(value, as_json, lambda: typer.echo(text))
