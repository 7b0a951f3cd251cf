"""Completed runs of the grid whose quality is known, without training anything."""

from collections.abc import Callable

import numpy as np
import pytest

from core import stats
from core.runs.store import Run, RunState, Store, open_store
from core.spec import RunSpec
from core.workspace import Workspace, open_workspace

Complete = Callable[..., Run]


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return open_store(workspace, create=True)


@pytest.fixture
def complete(store: Store, workspace: Workspace) -> Complete:
    """A completed run with predictions; ``skill`` is the distance of the classes."""

    def make(spec: RunSpec, skill: float = 1.0, studies: int = 200) -> Run:
        run = store.create(spec)
        folder = workspace.run(run.id) / "predictions"
        folder.mkdir(parents=True)
        fixed = np.random.default_rng(5)
        labels = (fixed.random((studies, 2)) < 0.3).astype(np.float32)
        hard = fixed.normal(size=labels.shape)
        noise = np.random.default_rng(spec.train.seed + 1).normal(size=labels.shape)
        logits = skill * labels + hard + 0.2 * noise
        for split in ("val", "test"):
            np.savez_compressed(
                folder / f"{split}.npz",
                ids=np.array([f"{split}-{i:04d}" for i in range(studies)]),
                patients=np.array([f"P{i // 2:04d}" for i in range(studies)]),
                findings=np.array(("Edema", "Mass")),
                labels=labels,
                scores=(1 / (1 + np.exp(-logits))).astype(np.float32),
            )
        auroc = stats.macro(stats.per_finding(labels, logits))
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

    return make
