"""Registry of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from core.benchmarks.measurement import REPEATS, Row
from core.benchmarks.png_folder import Shape
from core.errors import unknown_name


@dataclass(frozen=True)
class Scale:
    """Size of the benchmarks.

    Attributes:
        quick: Only check that the benchmarks work; the figures mean nothing.
        epochs: Epochs of the whole run; the paper has 100.
        gpu: Whether there is a GPU, for which larger tasks are measured as well.
    """

    quick: bool = False
    epochs: int = 10
    gpu: bool = False


def _endtoend(scale: Scale) -> list[Row]:
    from core.benchmarks import whole_run

    if scale.quick:
        return whole_run.rows(Shape(train=16, val=24, epochs=3, side=256, size=128, batch=8))
    return whole_run.rows(Shape(epochs=scale.epochs))


def _parity(scale: Scale) -> list[Row]:
    from core.benchmarks import auroc_parity

    if scale.quick:
        return auroc_parity.rows(Shape(train=16, val=24, epochs=2, side=128, size=64, batch=8), 2)
    return auroc_parity.rows()


def _steps(scale: Scale) -> list[Row]:
    from core.benchmarks import training_step

    if scale.quick:
        return training_step.rows((4,), ("ViT-Ti",), 2)
    return training_step.rows(
        (64, 256) if scale.gpu else (64,), tuple(training_step.SIZES), REPEATS
    )


def _together(scale: Scale) -> list[Row]:
    from core.benchmarks import joint_training, training_step

    if scale.quick:
        tiny = joint_training.Sweep("embedded-mae", 64, train=16, held=12, epochs=1, repeats=1)
        return joint_training.rows({"ViT-Ti 64 px": tiny})
    if scale.gpu:
        large = {
            name: joint_training.Sweep(training_step.SIZES[name], train=2_048)
            for name in ("ViT-Ti", "ViT-B")
        }
        return joint_training.rows(large)
    return joint_training.rows({"ViT-Ti": joint_training.Sweep(training_step.SIZES["ViT-Ti"], 128)})


def _growth(scale: Scale) -> list[Row]:
    from core.benchmarks import growth

    return growth.rows((200, 1_000), pixels=False) if scale.quick else growth.rows()


BENCHMARKS: dict[str, Callable[[Scale], list[Row]]] = {
    "end-to-end": _endtoend,
    "parity": _parity,
    "step": _steps,
    "together": _together,
    "growth": _growth,
}
"""Benchmarks by name."""


def chosen(only: str | None) -> Iterable[str]:
    """Names of the benchmarks to run: ``only``, or all of them if it is None.

    Raises:
        ConfigurationError: The name is unknown.
    """
    if only is None:
        return BENCHMARKS
    if only not in BENCHMARKS:
        raise unknown_name("benchmark", only, BENCHMARKS)
    return (only,)
