"""Validation of an imported adapter, without the other steps of a run."""

from __future__ import annotations

from pathlib import Path

from core.config.run import RunSpec
from core.metrics.auroc import macro, per_finding
from core.reporter import Reporter
from core.training import validation
from core.training.prepare import prepare
from core.training.setup import setup


def validation_auroc(spec: RunSpec, folder: Path, cache: Path, report: Reporter) -> float:
    """Mean AUROC of an imported adapter on the validation split.

    Args:
        spec: A run with an imported adapter.
        folder: Folder with the adapter, as of a run.
        cache: Folder of decoded images.
        report: Receives the progress.

    Raises:
        CoreError: The data set, the backbone or the adapter cannot be used.
    """
    session = setup(spec.resolved(), folder, cache, report)
    prepare(session, "val")
    ids = session.ids["val"]
    return macro(per_finding(session.dataset.labels(ids), validation.predict(session, ids)))
