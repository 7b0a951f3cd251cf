"""A completed run with predictions of known quality, without training."""

from pathlib import Path

import numpy as np

from core.config.run import RunSpec
from core.metrics.auroc import macro, per_finding
from core.runs.run import Run, RunState
from core.runs.store import Store
from core.workspace import Workspace


def completed(
    store: Store,
    workspace: Workspace,
    spec: RunSpec,
    skill: float = 1.0,
    studies: int = 200,
    findings: tuple[str, ...] = ("Edema", "Mass"),
) -> Run:
    """Put a run with predictions into a store.

    Args:
        store: The store.
        workspace: The workspace of the run's folder.
        spec: Its specification; the seed draws a small part of the scores.
        skill: Distance of the classes, in standard deviations of the noise shared by all runs.
        studies: Number of studies of validation and of test, two per patient.
        findings: Names of the findings.
    """
    run = store.create(spec)
    auroc = write_predictions(workspace.run(run.id), spec, skill, studies, findings)
    store.transition(run.id, RunState.STARTING)
    store.transition(run.id, RunState.RUNNING)
    return store.transition(
        run.id,
        RunState.COMPLETED,
        scores={"test": {"auroc": auroc, "studies": studies}},
        seconds=60.0,
        trainable=40 if spec.adapter.method == "lora" else 5_400,
        total=5_440,
    )


def write_predictions(
    run_folder: Path,
    spec: RunSpec,
    skill: float = 1.0,
    studies: int = 200,
    findings: tuple[str, ...] = ("Edema", "Mass"),
) -> float:
    """Write the predictions of a run, and return their mean AUROC; see ``completed``."""
    folder = run_folder / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    fixed = np.random.default_rng(5)
    labels = (fixed.random((studies, len(findings))) < 0.3).astype(np.float32)
    hard = fixed.normal(size=labels.shape)
    noise = np.random.default_rng(spec.train.seed + 1).normal(size=labels.shape)
    logits = skill * labels + hard + 0.2 * noise
    for split in ("val", "test"):
        np.savez_compressed(
            folder / f"{split}.npz",
            ids=np.array([f"{split}-{i:04d}" for i in range(studies)]),
            patients=np.array([f"P{i // 2:04d}" for i in range(studies)]),
            findings=np.array(findings),
            labels=labels,
            scores=(1 / (1 + np.exp(-logits))).astype(np.float32),
        )
    return macro(per_finding(labels, logits))
