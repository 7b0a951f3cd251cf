"""A finished run's weights on disk, and the model they make again."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.config.run import RunSpec
from core.data.cache.image_cache import cache_side
from core.data.transforms import EvalTransform
from core.errors import DataError, ModelError, WriteError
from core.models.backbones import build as backbones
from core.models.backbones import registry as catalogue
from core.models.backbones.checkpoints import LoadReport
from core.models.backbones.registry import BackboneCard
from core.models.peft_files import attach as attaching
from core.models.peft_files import read as foreign
from core.models.peft_files import write as portable
from core.models.tuning import apply as adapters
from core.workspace import ADAPTER, BEST, RESULT, SPEC


@dataclass(frozen=True)
class Trained:
    """A model as a run left it at its best epoch, ready to predict.

    Attributes:
        model: In evaluation mode, on the CPU; logits of shape (studies, findings).
        card: The backbone's card.
        spec: The run's resolved specification.
        findings: Names of the outputs, in order.
        transform: Makes the model's input of pictures whose shorter side is ``side``.
        side: Shorter side, in pixels, of the pictures that ``transform`` expects.
    """

    model: nn.Module
    card: BackboneCard
    spec: RunSpec
    findings: tuple[str, ...]
    transform: EvalTransform
    side: int

    def finding(self, name: str) -> int:
        """The output that stands for a finding.

        Raises:
            DataError: The model has no such finding.
        """
        if name not in self.findings:
            raise DataError(
                f"This model does not know the finding “{name}”.",
                f"It knows: {', '.join(self.findings)}.",
            )
        return self.findings.index(name)

    def probabilities(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Predict pictures of any size.

        Args:
            images: Grey pictures of shape (height, width), 0 to 255.

        Returns:
            Probabilities of shape (pictures, findings).
        """
        with torch.inference_mode():
            logits: Tensor = self.model(self.transform(images))
        found: NDArray[np.float32] = torch.sigmoid(logits.float()).numpy()
        return found


def load_trained(folder: Path) -> Trained:
    """Build a run's model with the weights of its best epoch.

    Args:
        folder: The run's folder.

    Raises:
        ModelError: The run has no weights yet, or its backbone's weights have changed since.
    """
    if not ((folder / BEST).exists() and (folder / SPEC).exists()):
        raise ModelError(
            "This run has no weights yet.", "Wait for its first validation, or start it again."
        )
    spec = RunSpec.from_json((folder / SPEC).read_text())
    state, about = read_state(folder / BEST)
    findings = tuple(json.loads(about["findings"]))
    # Full fine-tuning saved every weight; fetching the pre-trained ones again would be for nothing.
    frozen_part = spec.adapter.method != "full"
    card, model, report = untuned(spec, len(findings), weights=frozen_part)
    if frozen_part and (report.sha256 or "") != about["backbone_sha256"]:
        raise ModelError(
            f"The weights of {card.title} have changed since this run was trained.",
            "Restore the former file or train the run again.",
        )
    model = tuned(model, spec, folder)
    adapters.load_trainable_state(model, state)
    model.eval()
    size = spec.model.input_size or card.input_size
    return Trained(model, card, spec, findings, evaluation_transform(card, size), cache_side(size))


def untuned(
    spec: RunSpec, findings: int, *, weights: bool = True
) -> tuple[BackboneCard, nn.Module, LoadReport]:
    """The classifier that a run started from, before anything was tuned.

    Args:
        spec: The run.
        findings: Outputs of the classifier.
        weights: Load the pre-trained weights where the run did; otherwise leave random ones.

    Returns:
        The backbone's card, the model, and what was loaded.

    Raises:
        ModelError: The weights cannot be found, read or matched.
    """
    card = catalogue.card(spec.model.backbone)
    torch.manual_seed(spec.train.seed)  # frozen random weights are drawn as the run drew them
    model, report = backbones.build(
        card,
        findings,
        pretrained=spec.model.pretrained and weights,
        weights=spec.model.weights if weights else None,
        input_size=spec.model.input_size,
    )
    return card, model, report


def tuned(model: nn.Module, spec: RunSpec, folder: Path) -> nn.Module:
    """Prepare a backbone for a run's way of tuning, or put on it the adapter the run came with.

    Args:
        model: The classifier the run starts from; it is changed.
        spec: The run.
        folder: Its folder.

    Raises:
        ConfigurationError: The method does not suit the architecture.
        ModelError: The imported adapter is missing, damaged, or not the one the run came with.
    """
    if spec.adapter.imported is None:
        return adapters.apply(model, spec.adapter)
    adapter = foreign.read(folder / ADAPTER)
    if adapter.identity != spec.adapter.imported:
        raise ModelError(
            "The adapter in this run's folder is not the one that was imported.",
            "Import it again: python -m core import-adapter DIR.",
        )
    return attaching.attach(model, adapter)


def encoder_digest(model: nn.Module) -> str:
    """Hash of a plain classifier's weights, all but the classifier's own (see ``digest``)."""
    heads = tuple(f"{name}." for name in portable.classifier(model))
    return digest({k: v for k, v in model.state_dict().items() if not k.startswith(heads)})


def evaluation_transform(card: BackboneCard, size: int) -> EvalTransform:
    """How pictures become the input of an evaluation.

    Args:
        card: The backbone's card. The centre crop it asks for keeps its share of the picture.
        size: Side of the input in pixels.
    """
    resize = card.eval_resize and round(card.eval_resize * size / card.input_size)
    return EvalTransform(size, card.mean, card.std, card.channels, resize)


def read_result(folder: Path) -> dict[str, Any]:
    """The scores and facts that a run wrote at its end.

    Raises:
        DataError: The run has not ended yet.
    """
    path = folder / RESULT
    if not path.exists():
        raise DataError("This run has no result yet.", "Wait until it has completed.")
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of a state, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def write_state(path: Path, state: dict[str, Tensor], about: dict[str, str]) -> None:
    """Write tensors and text as safetensors, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_atomically(path, safetensors.torch.save(plain, metadata=about))


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what ``write_state`` wrote.

    Raises:
        ModelError: The file is missing or damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(
            f"The weights in {path.name} cannot be read ({error}).", "Train the run again."
        ) from error


def write_atomically(path: Path, content: bytes | dict[str, Any]) -> None:
    """Write a file so that a crash leaves either the old content or the new, never a part.

    Args:
        path: The file.
        content: Its bytes, or what ``torch.save`` shall write.

    Raises:
        WriteError: The disk is full, or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    faults: list[OSError] = []
    try:
        with partial.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                torch.save(content, _Told(file, faults))  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save turns what goes wrong into the latter
        partial.unlink(missing_ok=True)
        why = getattr(next(iter(faults), error), "strerror", None) or str(error).splitlines()[0]
        raise WriteError(
            f"{path.name} cannot be written ({why}).",
            "Free space on the disk of the workspace, then resume the run.",
        ) from error


class _Told:
    """A file for ``torch.save``, which says of a full disk only that a position is unexpected."""

    def __init__(self, file: BinaryIO, faults: list[OSError]) -> None:
        self._file, self._faults = file, faults

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self._faults.append(error)
            raise

    def flush(self) -> None:
        self._file.flush()
