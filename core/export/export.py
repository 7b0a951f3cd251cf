"""A finished run for other programs: a peft adapter, timm weights, or an ONNX graph, with a card.

Each format is written into a folder of its own, loaded again the way anybody else would load it,
and compared with the run's own model before the folder gets its name.
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
from core.models.peft_files import write as portable
from core.models.tuning.apply import merge_adapter

CLOSE, FLOOR = 1e-4, 1e-6
"""How far the logits of what was exported may be from those of the run's model: CLOSE, but where
they are all below 1 that share of the largest, and FLOOR."""
EXPORTS = "export"
ABOUT = "export.json"
BACKBONE = model_card.BACKBONE
ONNX_NEEDS = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        format: A key of ``FORMATS``.
        folder: The folder it is in.
        files: Names of its files.
        size: Their size in bytes.
        difference: Largest difference of the logits from those of the run's model.
    """

    format: str
    folder: Path
    files: tuple[str, ...]
    size: int
    difference: float


def export_run(run: Path, format: str, out: Path | None = None, *, force: bool = False) -> Export:
    """Write a finished run's model for another program.

    Args:
        run: The run's folder.
        format: A key of ``FORMATS``.
        out: Folder to write, new or empty; by default ``export/FORMAT`` of the run's folder.
        force: Replace an earlier export; anything else is never replaced.

    Raises:
        ConfigurationError: The format is unknown, ``out`` is taken or cannot be written, or a
            package is missing.
        DataError: The run has not finished.
        ModelError: The run's method cannot be exported in this format, or its backbone's weights
            are no longer there.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    target = (run / EXPORTS / format) if out is None else out.expanduser().absolute()
    _check_taken(target, force)
    result = read_result(run)
    trained = load_trained(run)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        partial.mkdir(parents=True)
        about = _about(run, trained, result) | {"format": format}
        about |= FORMATS[format](trained, partial)
        (partial / ABOUT).write_text(json.dumps(about, indent=2))
        card = model_card.write(partial, trained, about, result)
        (partial / model_card.FILE).write_text(card, encoding="utf-8")
        _rename(partial, target, force)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"{target} cannot be written ({why}).",
            "Free some space, or name another folder: --out DIR.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    files = sorted(one for one in target.rglob("*") if one.is_file())
    return Export(
        format,
        target,
        tuple(str(one.relative_to(target)) for one in files),
        sum(one.stat().st_size for one in files),
        about["difference"],
    )


def _peft(trained: Trained, folder: Path) -> dict[str, Any]:
    import peft
    import timm

    spec, card, sample = trained.spec, trained.card, _sample(trained)
    plain = build_classifier(spec, len(trained.findings), adapted=False).model
    given = model_arguments(card, len(trained.findings), trained.transform.input_size)
    encoder = encoder_digest(plain)
    given |= portable.separate(trained.model, plain)
    start = {name: value.clone() for name, value in plain.state_dict().items()}
    wrapped = portable.portable(trained.model, plain, spec.adapter)
    wrapped.peft_config["default"].base_model_name_or_path = card.architecture
    wrapped.save_pretrained(str(folder), save_embedding_layers=False)
    fetched = _as_fetched(trained, given, start)
    if fetched is None:
        save_file(start, folder / BACKBONE)
        fetched = timm.create_model(card.architecture, **given)
        fetched.load_state_dict(load_file(folder / BACKBONE))
    with warnings.catch_warnings():
        # Of timm's normalisation layers, which are torch's with another forward.
        warnings.filterwarnings("ignore", "Unsupported layer type")
        again = peft.PeftModel.from_pretrained(fetched, str(folder))
    found = sample.compared(again.eval(), "peft", portable.REMEDY)
    return {"arguments": given, "encoder_sha256": encoder} | found


def _as_fetched(
    trained: Trained, given: dict[str, Any], start: dict[str, Tensor]
) -> nn.Module | None:
    """The plain model with the weights that timm itself fetches, if they are the run's."""
    import timm

    model, card = trained.spec.model, trained.card
    if card.source != "timm" or not model.pretrained or model.weights is not None:
        return None
    try:
        fetched: nn.Module = timm.create_model(card.architecture, pretrained=True, **given)
    except (OSError, RuntimeError, ValueError):
        return None
    own = fetched.state_dict()
    replaced = tuple(f"{name}." for name in portable.classifier(fetched))
    same = own.keys() == start.keys() and all(
        name.startswith(replaced) or torch.equal(own[name], start[name]) for name in own
    )
    return fetched if same else None


def _merged(trained: Trained, folder: Path) -> dict[str, Any]:
    import timm
    from timm.models import save_for_hf

    remedy, sample = "Export it as a graph instead (format onnx).", _sample(trained)
    try:
        model = merge_adapter(trained.model).eval()
    except ModelError as error:
        raise ModelError(error.cause, remedy) from error
    card, size = trained.card, trained.transform.input_size
    told = {"input_size": (card.channels, size, size)} | {
        name: model_card.per_channel(value, card.channels)
        for name, value in (("mean", card.mean), ("std", card.std))
    }
    config = {"label_names": list(trained.findings), "pretrained_cfg": told}
    given = model_arguments(card, len(trained.findings), size)
    save_for_hf(model, str(folder), config, model_args=given, safe_serialization=True)
    try:
        again = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except RuntimeError as error:  # its weights are not those of the plain architecture
        raise _without_counterpart("timm", f"({str(error).splitlines()[0]})", remedy) from error
    return {"arguments": given} | sample.compared(again.eval(), "timm", remedy)


def _onnx(trained: Trained, folder: Path) -> dict[str, Any]:
    absent = [name for name in ONNX_NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigurationError(
            f"An ONNX export needs {', '.join(absent)}, which this installation lacks.",
            "Install them: pip install 'cxr-peft-explorer[onnx]'.",
        )
    import onnx
    import onnxruntime

    sample, file = _sample(trained), folder / "model.onnx"
    with contextlib.suppress(ModelError):  # what cannot be merged is a graph all the same
        merge_adapter(trained.model)
    try:
        _write_graph(trained.model.eval(), sample.pixels, file)
        graph = onnx.load(file)
        onnx.helper.set_model_props(
            graph, {"findings": json.dumps(trained.findings), "run": trained.spec.title()}
        )
        onnx.save(graph, file)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

        def graphed(pixels: Tensor) -> Tensor:
            # In two batches of different sizes, which a graph of one size refuses.
            parts = [pixels[:1], pixels[1:]]
            found = [session.run(None, {"pixels": part.numpy()})[0] for part in parts]
            return torch.from_numpy(np.concatenate(found))

        return sample.compared(graphed, "ONNX", portable.REMEDY)
    except (CoreError, OSError):
        raise
    except Exception as error:  # exporter and runtime have dozens of their own
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise _without_counterpart("ONNX", f"({why})", portable.REMEDY) from error


def _write_graph(model: nn.Module, pixels: Tensor, file: Path) -> None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter's own making; the result is compared
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
"""The formats by name: peft's adapter folder, timm's weights, an ONNX graph of any batch size.

Each writes into a folder and says how far its logits are from the run's (``difference``), and what
``timm.create_model`` is given beside the architecture's name (``arguments``).
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
    """Noise, and what the run's model makes of it."""

    pixels: Tensor
    logits: Tensor

    def compared(
        self, other: Callable[[Tensor], Tensor], program: str, remedy: str
    ) -> dict[str, Any]:
        """How far another model's logits are away, or that this is too far."""
        with torch.inference_mode():
            difference = float((self.logits - other(self.pixels)).abs().max())
        if not difference <= min(CLOSE, FLOOR + CLOSE * float(self.logits.abs().max())):
            raise _without_counterpart(program, f"(the logits differ by {difference:.2g})", remedy)
        return {"difference": difference}


def _sample(trained: Trained) -> _Sample:
    size = trained.transform.input_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(3, trained.card.channels, size, size, generator=generator)
    with torch.inference_mode():
        return _Sample(pixels, trained.model(pixels))


def _without_counterpart(program: str, why: str, remedy: str) -> ModelError:
    return ModelError(
        f"What this method made of this architecture has no counterpart in {program} {why}.", remedy
    )


def _check_taken(target: Path, force: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / ABOUT).is_file():
        raise ConfigurationError(
            f"{target} exists and is no earlier export.", "Name another folder: --out DIR."
        )
    if not force:
        raise ConfigurationError(
            f"{target} holds an earlier export.",
            "Replace it with --force, or name another folder: --out DIR.",
        )


def _rename(partial: Path, target: Path, force: bool) -> None:
    _check_taken(target, force)  # it may have come into being meanwhile
    former = partial.with_suffix(".old")
    if target.exists():
        target.rename(former)
    try:
        partial.rename(target)
    except OSError:
        if former.exists():
            former.rename(target)
        raise
    shutil.rmtree(former, ignore_errors=True)
