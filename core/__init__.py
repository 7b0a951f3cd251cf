"""Fine-tune chest-radiograph foundation models with few labels, and compare the methods.

The names below are the public API; they are loaded when they are first used. Everything works
without a screen: ``core`` never imports ``explorer`` or gradio. A comparison in a few lines::

    import core

    workspace = core.open_workspace()
    spec = core.RunSpec.of(**{"data.label_fraction": 0.1, "adapter.method": "lora"})
    lora = core.run(spec, workspace)
    full = core.run(core.counterpart(spec, "full"), workspace)
    print(core.as_text(core.evaluate(lora.folder)))
    print(core.difference_text(core.compare(lora.folder, full.folder)))
    core.draw(core.explain(lora.folder, "Effusion", study="900001-1"), Path("map.png"))
    core.export_run(lora.folder, "peft")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from core.classifier.trained import Trained, load_trained
    from core.config.run import AdapterSpec, DataSpec, ModelSpec, RunSpec, TrainSpec
    from core.data.base import ChestDataset
    from core.data.datasets.registry import DATASETS, open_dataset
    from core.errors import CoreError
    from core.evaluation.evaluate import as_text, difference_text
    from core.evaluation.evaluate import compare_runs as compare
    from core.evaluation.evaluate import evaluate_run as evaluate
    from core.evaluation.groups import Trial, counterpart, grouped
    from core.evaluation.predictions import read_predictions
    from core.evaluation.verdict import verdict
    from core.experiments.sweep import grid as sweep
    from core.export.export import export_run
    from core.formatting import DISCLAIMER
    from core.models.backbones.registry import BACKBONES
    from core.models.tuning.registry import TUNING_METHODS
    from core.reporter import NullReporter
    from core.resources.estimate import estimate
    from core.runs.run import Run, RunState
    from core.runs.store import Store, open_store
    from core.saliency.explain import explain_study as explain_image
    from core.saliency.methods.registry import SALIENCY_METHODS
    from core.saliency.request import draw, explain_study_of
    from core.saliency.request import explain_run as explain
    from core.training.run_here import run_in_process as run
    from core.workspace import Workspace, open_workspace

_MODULES = {
    "core.classifier.trained": ("Trained", "load_trained"),
    "core.config.run": ("AdapterSpec", "DataSpec", "ModelSpec", "RunSpec", "TrainSpec"),
    "core.data.base": ("ChestDataset",),
    "core.data.datasets.registry": ("DATASETS", "open_dataset"),
    "core.errors": ("CoreError",),
    "core.evaluation.evaluate": ("as_text", "difference_text"),
    "core.evaluation.predictions": ("read_predictions",),
    "core.evaluation.groups": ("Trial", "counterpart", "grouped"),
    "core.evaluation.verdict": ("verdict",),
    "core.export.export": ("export_run",),
    "core.formatting": ("DISCLAIMER",),
    "core.models.backbones.registry": ("BACKBONES",),
    "core.models.tuning.registry": ("TUNING_METHODS",),
    "core.reporter": ("NullReporter",),
    "core.resources.estimate": ("estimate",),
    "core.runs.run": ("Run", "RunState"),
    "core.runs.store": ("Store", "open_store"),
    "core.saliency.methods.registry": ("SALIENCY_METHODS",),
    "core.saliency.request": ("draw", "explain_study_of"),
    "core.workspace": ("Workspace", "open_workspace"),
}
_PLACES = {name: (module, name) for module, names in _MODULES.items() for name in names} | {
    "compare": ("core.evaluation.evaluate", "compare_runs"),
    "evaluate": ("core.evaluation.evaluate", "evaluate_run"),
    "explain": ("core.saliency.request", "explain_run"),
    "explain_image": ("core.saliency.explain", "explain_study"),
    "run": ("core.training.run_here", "run_in_process"),
    "sweep": ("core.experiments.sweep", "grid"),
}

__all__ = [
    "BACKBONES", "DATASETS", "DISCLAIMER", "SALIENCY_METHODS", "TUNING_METHODS", "AdapterSpec",
    "ChestDataset", "CoreError", "DataSpec", "ModelSpec", "NullReporter", "Run", "RunSpec",
    "RunState", "Store", "TrainSpec", "Trained", "Trial", "Workspace", "as_text", "compare",
    "counterpart", "difference_text", "draw", "estimate", "evaluate", "explain", "explain_image",
    "explain_study_of", "export_run", "grouped", "load_trained", "open_dataset", "open_store",
    "open_workspace", "read_predictions", "run", "sweep", "verdict",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'core' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
