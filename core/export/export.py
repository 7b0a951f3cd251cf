"""Exporting a finished run: a peft adapter, timm weights or an ONNX graph, with a model card.

Each format is written to a temporary folder, loaded again with the other library, and compared with
the run's model before the folder gets its final name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.classifier.build import build_classifier, encoder_digest
from core.classifier.trained import Trained, load_trained, read_result
from core.errors import ConfigurationError, CoreError, ModelError, unknown_name
from core.export import model_card
from core.models.backbones.build import model_arguments
from core.models.backbones.model_map import map_model
from core.models.peft_files.write import REMEDY, classifier_names, split_as, write_adapter
from core.models.tuning.apply import merge_adapter
from core.models.tuning.registry import tuning_method

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-4, 1e-6
"""Allowed difference between the logits of the exported model and of the run's model: the relative
tolerance times the largest logit (at most 1), plus the absolute tolerance, and never more than the
relative tolerance."""
EXPORTS = "export"
ABOUT = "export.json"
BACKBONE = model_card.BACKBONE
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Export:
    """A written export.

    Attributes:
        format: A key of ``FORMATS``.
        folder: Its folder.
        files: Names of its files.
        size: Size of its files in bytes.
        difference: Largest absolute difference between its logits and those of the run's model.
    """

    format: str
    folder: Path
    files: tuple[str, ...]
    size: int
    difference: float


def export_run(run: Path, format: str, out: Path | None = None, *, force: bool = False) -> Export:
    """Export a finished run's model for another library.

    Args:
        run: The run's folder.
        format: A key of ``FORMATS``.
        out: Folder to write, new or empty; by default ``export/FORMAT`` in the run's folder.
        force: Replace an earlier export; other content is never replaced.

    Raises:
        ConfigurationError: The format is unknown, ``out`` is not empty or cannot be written, or a
            package is missing.
        DataError: The run has not finished.
        ModelError: The run's method cannot be exported in this format, or its backbone's weights
            are missing.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    target = (run / EXPORTS / format) if out is None else out.expanduser().absolute()
    _check_replaceable(target, force)
    result = read_result(run)
    trained = load_trained(run)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        partial.mkdir(parents=True)
        about = _about(run, trained, result) | {"format": format}
        about |= FORMATS[format](trained, partial)
        (partial / ABOUT).write_text(json.dumps(about, indent=2))
        card = model_card.model_card(partial, trained, about, result)
        (partial / model_card.FILE).write_text(card, encoding="utf-8")
        _rename(partial, target, force)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"{target} cannot be written ({why}).",
            "Free space on the disk, or give another folder: --out DIR.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    files = sorted(file for file in target.rglob("*") if file.is_file())
    return Export(
        format,
        target,
        tuple(str(file.relative_to(target)) for file in files),
        sum(file.stat().st_size for file in files),
        about["difference"],
    )


def _check_head(trained: Trained) -> None:
    """Refuse a head that timm's classifiers do not have.

    Raises:
        ModelError: The head is not a linear layer on pooled features.
    """
    head = trained.model.get_classifier()  # type: ignore[operator]
    without_backbone = tuning_method(trained.spec.adapter.method).network is not None
    if not isinstance(head, nn.Linear) or without_backbone:
        what = "has no backbone" if without_backbone else "has a head of its own"
        raise ModelError(
            f"The model of this run {what}, which peft and timm cannot represent.",
            "Export it as an ONNX graph instead (format onnx).",
        )


def _peft(trained: Trained, folder: Path) -> dict[str, Any]:
    import peft
    import timm

    _check_head(trained)
    spec, card, sample = trained.spec, trained.card, _sample(trained)
    plain = build_classifier(spec, len(trained.findings), adapted=False).model
    arguments = model_arguments(card, len(trained.findings), trained.transform.input_size)
    encoder = encoder_digest(plain)
    arguments |= split_as(trained.model, plain)
    start = {name: value.clone() for name, value in plain.state_dict().items()}
    write_adapter(folder, trained.model, plain, spec.adapter, card.architecture)
    backbone = _from_timm(trained, arguments, start)
    if backbone is None:
        save_file(start, folder / BACKBONE)
        backbone = timm.create_model(card.architecture, **arguments)
        backbone.load_state_dict(load_file(folder / BACKBONE))
    with warnings.catch_warnings():
        # peft warns about timm's normalisation layers, which derive from torch's.
        warnings.filterwarnings("ignore", "Unsupported layer type")
        loaded = peft.PeftModel.from_pretrained(backbone, str(folder))
    difference = sample.difference(loaded.eval(), "peft", REMEDY)
    return {"arguments": arguments, "encoder_sha256": encoder, "difference": difference}


def _from_timm(
    trained: Trained, arguments: dict[str, Any], start: dict[str, Tensor]
) -> nn.Module | None:
    """The plain model with the weights that timm downloads, if the run started from them."""
    import timm

    model, card = trained.spec.model, trained.card
    if card.source != "timm" or not model.pretrained or model.weights is not None:
        return None
    try:
        plain: nn.Module = timm.create_model(card.architecture, pretrained=True, **arguments)
    except (OSError, RuntimeError, ValueError):
        return None
    state = plain.state_dict()
    classifier = tuple(f"{name}." for name in classifier_names(map_model(plain)))
    same = state.keys() == start.keys() and all(
        name.startswith(classifier) or torch.equal(state[name], start[name]) for name in state
    )
    return plain if same else None


def _merged(trained: Trained, folder: Path) -> dict[str, Any]:
    import timm
    from timm.models import save_for_hf

    _check_head(trained)
    remedy, sample = "Export it as an ONNX graph instead (format onnx).", _sample(trained)
    try:
        model = merge_adapter(trained.model).eval()
    except ModelError as error:
        raise ModelError(error.cause, remedy) from error
    card, size = trained.card, trained.transform.input_size
    pretrained = {
        "input_size": (card.channels, size, size),
        "mean": model_card.per_channel(card.mean, card.channels),
        "std": model_card.per_channel(card.std, card.channels),
    }
    config = {"label_names": list(trained.findings), "pretrained_cfg": pretrained}
    arguments = model_arguments(card, len(trained.findings), size)
    save_for_hf(model, str(folder), config, model_args=arguments, safe_serialization=True)
    try:
        loaded = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except RuntimeError as error:  # its weights do not fit the plain architecture
        raise _not_supported("timm", str(error).splitlines()[0], remedy) from error
    return {"arguments": arguments, "difference": sample.difference(loaded.eval(), "timm", remedy)}


def _onnx(trained: Trained, folder: Path) -> dict[str, Any]:
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"An ONNX export needs {', '.join(missing)}, which is not installed.",
            "Install them: pip install 'cxr-peft-explorer[onnx]'.",
        )
    import onnx
    import onnxruntime

    sample, file = _sample(trained), folder / "model.onnx"
    with contextlib.suppress(ModelError):  # a method that cannot be merged stays in the graph
        merge_adapter(trained.model)
    try:
        _write_graph(trained.model.eval(), sample.pixels, file)
        graph = onnx.load(file)
        onnx.helper.set_model_props(
            graph, {"findings": json.dumps(trained.findings), "run": trained.spec.title()}
        )
        onnx.save(graph, file)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

        def run_graph(pixels: Tensor) -> Tensor:
            # Two batches of different sizes: a graph with a fixed batch size would fail.
            batches = [pixels[:1], pixels[1:]]
            logits = [session.run(None, {"pixels": batch.numpy()})[0] for batch in batches]
            return torch.from_numpy(np.concatenate(logits))

        return {"difference": sample.difference(run_graph, "ONNX", REMEDY)}
    except (CoreError, OSError):
        raise
    except Exception as error:  # exporter and runtime raise exceptions of many types
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise _not_supported("ONNX", why, REMEDY) from error


def _write_graph(model: nn.Module, pixels: Tensor, file: Path) -> None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter; its result is checked afterwards
        torch.onnx.export(
            model,
            (pixels,),
            str(file),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
        )


FORMATS: dict[str, Callable[[Trained, Path], dict[str, Any]]] = {
    "peft": _peft,
    "merged": _merged,
    "onnx": _onnx,
}
"""The formats by name: peft's adapter folder, timm's weights, an ONNX graph for any batch size.

Each function writes files to a folder and returns entries of ``export.json``: the largest
difference of the logits from the run's (``difference``) and, for peft and timm, the arguments of
``timm.create_model`` (``arguments``).
"""


def _about(run: Path, trained: Trained, result: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": run.name,
        "findings": list(trained.findings),
        "backbone": trained.card.name,
        "backbone_sha256": result["backbone_sha256"],
        "weights_sha256": result["weights_sha256"],
        "architecture": trained.card.architecture,
        "input_size": trained.transform.input_size,
    }


@dataclass(frozen=True)
class _Sample:
    """Random input, and the logits of the run's model for it."""

    pixels: Tensor
    logits: Tensor

    def difference(self, model: Callable[[Tensor], Tensor], library: str, remedy: str) -> float:
        """Largest difference of another model's logits.

        Raises:
            ModelError: The difference is not within the tolerance.
        """
        with torch.inference_mode():
            difference = float((self.logits - model(self.pixels)).abs().max())
        largest = float(self.logits.abs().max())
        allowed = min(RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * largest)
        if not difference <= allowed:  # also if the difference is NaN
            raise _not_supported(library, f"the logits differ by {difference:.2g}", remedy)
        return difference


def _sample(trained: Trained) -> _Sample:
    size = trained.transform.input_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(3, trained.card.channels, size, size, generator=generator)
    with torch.inference_mode():
        return _Sample(pixels, trained.model(pixels))


def _not_supported(library: str, why: str, remedy: str) -> ModelError:
    return ModelError(
        f"{library} cannot represent this architecture as this method tuned it ({why}).", remedy
    )


def _check_replaceable(target: Path, force: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / ABOUT).is_file():
        raise ConfigurationError(
            f"{target} exists and is not an earlier export.", "Give another folder: --out DIR."
        )
    if not force:
        raise ConfigurationError(
            f"{target} contains an earlier export.",
            "Replace it with --force, or give another folder: --out DIR.",
        )


def _rename(partial: Path, target: Path, force: bool) -> None:
    _check_replaceable(target, force)  # again: another process may have created it
    previous = partial.with_suffix(".old")
    if target.exists():
        target.rename(previous)
    try:
        partial.rename(target)
    except OSError:
        if previous.exists():
            previous.rename(target)
        raise
    shutil.rmtree(previous, ignore_errors=True)
