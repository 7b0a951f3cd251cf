"""Names of methods and runs, the same on every page."""

from __future__ import annotations

from core.config.run import RunSpec
from core.models.tuning.registry import TUNING_METHODS
from core.runs.run import Run


def method_title(spec: RunSpec) -> str:
    """The method, with its rank if it has one: ``LoRA r 4``, ``Full fine-tuning``."""
    if spec.adapter.combined is not None:
        return spec.adapter.kind()
    method = TUNING_METHODS.get(spec.adapter.method)
    title = method.title if method else spec.adapter.method
    has_rank = method is not None and "rank" in method.options
    return f"{title} r {spec.adapter.rank}" if has_rank else title


def run_title(run: Run) -> str:
    """A run's name with the start of its id, which distinguishes runs of the same name."""
    return f"{run.name} · {run.id[:6]}"
