"""Speed and memory of a training step, compared with a conventional step and the machine's peak."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from core.benchmarks.measurement import (
    REPEATS,
    Row,
    device_name,
    in_new_process,
    median,
    peak_bytes,
    repeated,
)
from core.config.run import RunSpec
from core.reporter import NullReporter

SIZES = {
    "ViT-Ti": "timm:vit_tiny_patch16_224",
    "ViT-S": "timm:vit_small_patch16_224",
    "ViT-B": "timm:vit_base_patch16_224",
}
METHODS = ("lora", "full")
MIXED = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Case:
    """A training step that is measured.

    Attributes:
        backbone: Name of a backbone; its weights are random, which costs the same.
        method: Name of the tuning method.
        batch: Images per step.
        size: Side of the input in pixels.
        repeats: Measured steps, after one that is not measured.
        checkpointing: Whether activations are recomputed in the backward pass, to save memory.
    """

    backbone: str
    method: str
    batch: int
    size: int = 224
    repeats: int = REPEATS
    checkpointing: bool = False


def ours(case: Case) -> dict[str, Any]:
    """Steps of ``core.training.loop``.

    Returns:
        ``seconds`` of each step, ``operations`` of one, ``limit`` (operations per second of matrix
        products of the same shapes), ``precision``, ``peak_bytes`` of the device or the process.
    """
    from core.training.loop import training_step
    from core.training.setup import setup

    spec = RunSpec.of(**{
        "model.backbone": case.backbone, "model.pretrained": False, "model.input_size": case.size,
        "adapter.method": case.method, "train.batch_size": case.batch,
        "train.augmentation": "crop-flip", "train.activation_checkpointing": case.checkpointing,
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        session = setup(spec.resolved(), root / "run", root / "cache", NullReporter())
    channels = session.model.get_parameter(_first(session.model)).shape[1]
    inputs, targets = _batch(case, len(session.dataset.findings), channels)
    device = session.accelerator.device

    def work() -> None:
        training_step(session, inputs, targets, 0)
        _synchronize(device)

    seconds = repeated(work, case.repeats)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_bytes()
    # Counted last, because the counter keeps activations that checkpointing frees.
    with FlopCounterMode(display=False) as counter:
        work()
    width = int(getattr(session.model, "num_features", 192))
    tokens = case.batch * (case.size // 16) ** 2
    return {
        "seconds": seconds,
        "operations": float(counter.get_total_flops()),
        "precision": session.accelerator.mixed_precision,
        "peak_bytes": peak,
        "limit": products(tokens, width, MIXED[session.accelerator.mixed_precision], device),
        "limit_float32": products(tokens, width, torch.float32, device),
    }


def conventional(case: Case) -> dict[str, Any]:
    """Steps of a plain loop with autocast, peft's LoRA on qkv, and the loss read at each step."""
    import timm
    from peft import LoraConfig, get_peft_model

    from core.hardware import precision

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    chosen = MIXED[precision.resolve_precision("auto", gpu=gpu).replace("fp32", "no")]
    network: Any = timm.create_model(
        case.backbone.removeprefix("timm:"), num_classes=14, img_size=case.size
    )
    if case.method == "lora":
        config = LoraConfig(
            r=4, lora_alpha=32, lora_dropout=0.1, target_modules=["qkv"], modules_to_save=["head"]
        )
        network = get_peft_model(network, config)
    network.to(device).train()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    images = torch.randn(case.batch, 3, case.size, case.size)
    targets = _batch(case, 14, 1)[1]

    def work() -> float:
        with torch.autocast(device.type, chosen, enabled=chosen != torch.float32):
            logits = network(images.to(device)).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    seconds = repeated(work, case.repeats)
    peak = torch.cuda.max_memory_allocated() if gpu else peak_bytes()
    return {"seconds": seconds, "peak_bytes": peak}


def products(rows: int, width: int, dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of matrix products with the shapes of a transformer block's layers.

    On a GPU, a square product of 8192 is measured instead, the peak of the device.

    Args:
        rows: Tokens of a batch.
        width: Width of the network.
        dtype: Type of the factors.
        device: The device.
    """
    shapes = [(rows, width, 3 * width), (rows, width, width), (rows, width, 4 * width),
              (rows, 4 * width, width)]  # fmt: skip
    if device.type == "cuda":
        shapes = [(8192, 8192, 8192)]
    operations, seconds = 0.0, 0.0
    for n, k, m in shapes:
        a = torch.randn(n, k, device=device, dtype=dtype)
        b = torch.randn(k, m, device=device, dtype=dtype)

        def work(a: Tensor = a, b: Tensor = b) -> None:
            a @ b
            _synchronize(device)

        seconds += min(repeated(work))
        operations += 2.0 * n * k * m
    return operations / seconds


def rows(batches: tuple[int, ...], sizes: tuple[str, ...], repeats: int) -> list[Row]:
    """Images per second by size, method and batch; memory of LoRA and of full fine-tuning.

    The memory is measured without and with activation checkpointing.
    """
    table = []
    for batch in batches:
        for size in sizes:
            peaks = {}
            for method in METHODS:
                case = Case(SIZES[size], method, batch, repeats=repeats)
                own = in_new_process(ours, case)
                baseline = in_new_process(conventional, case)
                peaks[method] = own["peak_bytes"]
                table.append(_speed(f"step/{size}/{method}/{batch}", batch, own, baseline))
            table.append(_memory(f"memory/{size}/{batch}", peaks))
            for method in METHODS:
                case = Case(SIZES[size], method, batch, repeats=1, checkpointing=True)
                peaks[method] = in_new_process(ours, case)["peak_bytes"]
            table.append(_memory(f"memory/{size}/{batch}/checkpointing", peaks))
    return table


def profile() -> str:
    """The ten most expensive operations of an epoch of the default run, by torch.profiler."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    from core.data import subsets
    from core.training import prepare
    from core.training.loop import train_epoch
    from core.training.setup import setup

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        session = setup(RunSpec().resolved(), root / "run", root / "cache", NullReporter())
        prepare.prepare(session, "train")
        ids = session.ids["train"]
        labels = dict(
            zip(ids, subsets.labels(session.dataset, ids, session.spec.data), strict=True)
        )
        kinds = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            kinds.append(ProfilerActivity.CUDA)
        with profiled(activities=kinds) as profiler:
            started = time.perf_counter()
            train_epoch(session, labels)
            seconds = time.perf_counter() - started
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=order, row_limit=10, max_name_column_width=40)
    return f"One epoch of {len(ids):,} images, {seconds:.2f} s\n{table}"


def _speed(name: str, batch: int, own: dict[str, Any], baseline: dict[str, Any]) -> Row:
    seconds, (least, most) = median(own["seconds"])
    other, (baseline_least, baseline_most) = median(baseline["seconds"])
    achieved = own["operations"] / seconds
    more = {
        "spread": (batch / most, batch / least),
        "baseline_spread": (batch / baseline_most, batch / baseline_least),
        "precision": own["precision"],
        "gigaflops": achieved / 1e9,
        "share_of_peak": achieved / own["limit"],
        "share_of_float32_peak": achieved / own["limit_float32"],
        "peak_bytes": own["peak_bytes"],
        "baseline_peak_bytes": baseline["peak_bytes"],
    }
    return Row(name, batch / seconds, batch / other, "images/s", device_name(), "higher", more)


def _memory(name: str, peaks: dict[str, int]) -> Row:
    return Row(name, peaks["lora"] / 1e6, peaks["full"] / 1e6, "MB", device_name())


def _batch(case: Case, findings: int, channels: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    sides = (case.batch, channels, case.size, case.size)
    inputs = torch.randint(0, 256, sides, generator=random, dtype=torch.uint8)
    return inputs, torch.randint(0, 2, (case.batch, findings), generator=random).float()


def _first(model: torch.nn.Module) -> str:
    return next(name for name, value in model.named_parameters() if value.ndim == 4)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
