"""Runs made of other runs: ensembles, and soups of adapters."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.classifier.build import build_classifier, encoder_digest
from core.classifier.trained import load_trained, read_result
from core.config.defaults import RANKED
from core.config.run import AdapterSpec, RunSpec
from core.errors import RunError
from core.evaluation.predictions import PREDICTED, Predictions, read_predictions, write_predictions
from core.files import write_atomically
from core.metrics.auroc import macro, per_finding
from core.models.peft_files.read import ABOUT, read_adapter
from core.models.peft_files.write import (
    Update,
    classifier_states,
    low_rank_updates,
    mean_update,
    split_as,
    write_updates,
)
from core.reporter import Reporter
from core.runs.run import Run, RunState
from core.workspace import ADAPTER, RESULT, SPEC, Workspace

Score = Callable[[RunSpec, Path], float]
"""Mean validation AUROC of the adapter in a folder: (specification, folder) → AUROC."""


def combined_spec(kind: str, runs: Sequence[Run]) -> RunSpec:
    """Specification of a run that combines others: that of the first, with the members' ids.

    Args:
        kind: ``ensemble`` or ``soup``.
        runs: The members; completed runs on the same data.

    Raises:
        RunError: There are fewer than two, one is not completed, or their data differ.
    """
    members = {run.id: run for run in runs}
    if len(members) < 2:
        raise RunError(f"The {kind} has only one run.", "Give at least two runs.")
    for run in members.values():
        if run.state is not RunState.COMPLETED:
            raise RunError(f"The run {run.name} ({run.id}) is {run.state}.", "Give completed runs.")
        if run.spec.adapter.combined is not None:
            raise RunError(
                f"The run {run.name} ({run.id}) consists of other runs itself.", "Give its members."
            )
    first = runs[0].spec.resolved()
    for run in runs[1:]:
        if _data(run.spec) != _data(first):
            raise RunError(
                f"{runs[0].name} ({runs[0].id}) and {run.name} ({run.id}) were not trained on the "
                "same data set, split and label fraction.",
                f"Give runs on the same data: a {kind} counts as a run on it.",
            )
    seed = min(run.spec.train.seed for run in runs)
    combined = {"combined": " ".join([kind, *members]), "imported": None}
    adapter = first.adapter.model_copy(update=combined)
    return RunSpec(
        data=first.data.model_copy(update={"subset_seed": seed}),
        model=first.model,
        adapter=adapter,
        train=first.train.model_copy(update={"seed": seed}),
    )


def combine_predictions(
    spec: RunSpec, folder: Path, members: Mapping[str, Path], report: Reporter
) -> dict[str, Any]:
    """Write the predictions of an ensemble, the mean of its members' probabilities, and its result.

    Args:
        spec: Result of ``combined_spec``.
        folder: The folder of the ensemble's run.
        members: Folders of the members by id.
        report: Receives the log.

    Raises:
        DataError: A member has no predictions.
        RunError: The members did not predict the same studies and findings.
    """
    results = [read_result(place) for place in members.values()]
    folder.mkdir(parents=True, exist_ok=True)
    scores = {}
    for split in PREDICTED:
        if split not in results[0]["scores"]:
            continue
        mean = _mean([read_predictions(place, split) for place in members.values()], split)
        write_predictions(folder, split, mean)
        scores[split] = _scores(mean)
    report.log(f"Mean of the probabilities of {', '.join(members)}.")
    digests = " ".join(str(result["weights_sha256"]) for result in results)
    auroc = scores["val"]["auroc"]
    result = {
        "scores": scores,
        "findings": results[0]["findings"],
        "split": results[0]["split"],
        "members": list(members),
        "trainable": sum(result["trainable"] for result in results),
        "total": sum(result["total"] for result in results),
        "best_auroc": auroc,
        "last_auroc": auroc,
        "weights_sha256": hashlib.sha256(digests.encode()).hexdigest(),
        "backbone_sha256": results[0]["backbone_sha256"],
    }
    write_atomically(folder / SPEC, spec.resolved().model_dump_json(indent=2).encode())
    write_atomically(folder / RESULT, json.dumps(result, indent=2).encode())
    return result


@dataclass(frozen=True)
class SoupMember:
    """What a run adds to a soup.

    Attributes:
        run: The run.
        updates: The update ΔW of each adapted layer.
        classifier: Its classifier's tensors by module.
        auroc: Its mean validation AUROC.
    """

    run: Run
    updates: Mapping[str, Update]
    classifier: Mapping[str, Mapping[str, Tensor]]
    auroc: float


@dataclass(frozen=True)
class _Shared:
    """What the members of a soup have in common.

    Attributes:
        findings: Names of the outputs.
        encoder: Hash of the backbone's weights.
        plain: The backbone with a classifier, without an adapter.
        architecture: timm's name of it.
    """

    findings: tuple[str, ...]
    encoder: str
    plain: nn.Module
    architecture: str


@dataclass(frozen=True)
class Soup:
    """A soup of adapters.

    Attributes:
        spec: Specification of its run.
        chosen: The runs in it.
        tried: Candidates in the order in which they were tried, with the AUROC that the soup had
            or would have had with each.
    """

    spec: RunSpec
    chosen: tuple[Run, ...]
    tried: tuple[tuple[Run, float], ...]


def greedy_soup(runs: Sequence[Run], workspace: Workspace, folder: Path, score: Score) -> Soup:
    """Average adapters greedily (Wortsman et al. 2022, "Model soups", recipe 1).

    The best adapter by validation AUROC is the first soup. Each next one is added if the AUROC of
    the soup does not fall. What is averaged is the update ΔW = B·A of each layer, never A and B:
    the product of the means is not the mean of the products. The soup is a LoRA adapter of a higher
    rank; its classifier is the mean of the classifiers.

    Args:
        runs: The candidates.
        workspace: The workspace of their folders.
        folder: Folder in which the soup's adapter is written, as in a run's folder.
        score: Scores a soup on the validation split.

    Raises:
        RunError: As for ``combined_spec``; or a run has no low-rank adapter, or other findings or
            backbone weights than the first.
        ModelError: A run's weights cannot be read.
    """
    runs = list({run.id: run for run in runs}.values())
    base = combined_spec("soup", runs)
    for run in runs:
        if run.spec.adapter.method not in RANKED or run.spec.adapter.imported is not None:
            raise RunError(
                f"The run {run.name} ({run.id}) has no low-rank adapter that was trained here.",
                f"Give runs of {', '.join(sorted(RANKED))}.",
            )
    shared, members = _members(runs, workspace)
    members.sort(key=lambda each: -each.auroc)
    chosen, best = members[:1], members[0].auroc
    tried = [(members[0].run, best)]
    for candidate in members[1:]:
        spec = _write(base, [*chosen, candidate], shared, folder)
        auroc = score(spec, folder)
        tried.append((candidate.run, auroc))
        if auroc >= best:
            chosen, best = [*chosen, candidate], auroc
    spec = _write(base, chosen, shared, folder)
    return Soup(spec, tuple(each.run for each in chosen), tuple(tried))


def _data(spec: RunSpec) -> Any:
    return spec.data.model_copy(update={"subset_seed": None, "called": None})


def _mean(predictions: Sequence[Predictions], split: str) -> Predictions:
    first = predictions[0]
    order = np.argsort(first.ids, kind="stable")
    scores = np.zeros(first.scores.shape)
    for each in predictions:
        own = np.argsort(each.ids, kind="stable")
        if each.findings != first.findings or not np.array_equal(each.ids[own], first.ids[order]):
            raise RunError(
                f"The runs did not predict the same studies and findings of the {split} split.",
                "Give runs on the same data, without skipped images.",
            )
        scores[order] += each.scores[own] / len(predictions)
    return replace(first, scores=scores.astype(np.float32))


def _scores(predictions: Predictions) -> dict[str, Any]:
    each = per_finding(predictions.labels, predictions.scores)
    values = [None if np.isnan(value) else float(value) for value in [macro(each), *each]]
    return {
        "auroc": values[0],
        "per_finding": dict(zip(predictions.findings, values[1:], strict=True)),
        "studies": len(predictions.ids),
    }


def _members(runs: Sequence[Run], workspace: Workspace) -> tuple[_Shared, list[SoupMember]]:
    """Load the members one after the other: only one model is in memory."""
    members: list[SoupMember] = []
    shared: _Shared | None = None
    for run in runs:
        folder = workspace.run(run.id)
        trained = load_trained(folder)
        plain = build_classifier(trained.spec, len(trained.findings), adapted=False).model
        encoder = encoder_digest(plain)
        split_as(trained.model, plain)
        shared = shared or _Shared(trained.findings, encoder, plain, trained.card.architecture)
        if (trained.findings, encoder) != (shared.findings, shared.encoder):
            what = "backbone weights" if trained.findings == shared.findings else "findings"
            raise RunError(
                f"The run {run.name} ({run.id}) has other {what} than {runs[0].name} "
                f"({runs[0].id}).",
                "Give adapters of one backbone and one data set; random weights need one seed.",
            )
        validation = read_predictions(folder, "val")
        members.append(
            SoupMember(
                run,
                low_rank_updates(trained.model, plain),
                classifier_states(trained.model, plain),
                macro(per_finding(validation.labels, validation.scores)),
            )
        )
    assert shared is not None
    return shared, members


def _write(base: RunSpec, members: Sequence[SoupMember], shared: _Shared, folder: Path) -> RunSpec:
    """Write the mean of some members as an adapter; returns the specification of its run."""
    names = dict.fromkeys(name for each in members for name in each.updates)
    updates = {name: mean_update([each.updates.get(name) for each in members]) for name in names}
    classifier = {
        module: {
            name: torch.stack([each.classifier[module][name] for each in members]).mean(dim=0)
            for name in state
        }
        for module, state in members[0].classifier.items()
    }
    place = folder / ADAPTER
    place.mkdir(parents=True, exist_ok=True)
    write_updates(place, copy.deepcopy(shared.plain), updates, classifier, shared.architecture)
    about = {"findings": list(shared.findings), "encoder_sha256": shared.encoder}
    (place / ABOUT).write_text(json.dumps(about, indent=2))
    written = read_adapter(place)
    adapter = AdapterSpec(
        rank=min(1024, written.rank),
        alpha=min(1024.0, written.alpha),
        dropout=base.adapter.dropout,
        targets=base.adapter.targets,
        blocks=base.adapter.blocks,
        imported=written.identity,
        combined=base.adapter.combined,
    )
    return base.model_copy(update={"adapter": adapter})
