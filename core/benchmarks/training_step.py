"""A training step's speed and memory, against the conventional step and the machine's limit."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from core.benchmarks.measurement import REPEATS, Row, apart, device, middle, peak_bytes, repeated
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
    """What a step trains.

    Attributes:
        backbone: Name of a backbone, with random weights: they cost the same.
        method: Name of the method.
        batch: Pictures a step.
        size: Side of the input in pixels.
        repeats: Steps that are timed, after one that is not.
        again: Whether activations are computed again on the way back, to spare memory.
    """

    backbone: str
    method: str
    batch: int
    size: int = 224
    repeats: int = REPEATS
    again: bool = False


def ours(case: Case) -> dict[str, Any]:
    """Steps of ``core.training.loop``.

    Returns:
        ``seconds`` of each, ``operations`` of one, ``limit`` (operations a second of bare products
        of the same shapes), ``precision``, ``peak_bytes`` of the device or of the process.
    """
    from core.training.loop import training_step
    from core.training.setup import setup

    spec = RunSpec.of(**{
        "model.backbone": case.backbone, "model.pretrained": False, "model.input_size": case.size,
        "adapter.method": case.method, "train.batch_size": case.batch,
        "train.augmentation": "crop-flip", "train.activation_checkpointing": case.again,
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        session = setup(spec.resolved(), place / "run", place / "cache", NullReporter())
    channels = session.model.get_parameter(_first(session.model)).shape[1]
    inputs, targets = _batch(case, len(session.dataset.findings), channels)
    where = session.accelerator.device

    def work() -> None:
        training_step(session, inputs, targets, 0)
        _wait(where)

    seconds = repeated(work, case.repeats)
    peak = torch.cuda.max_memory_allocated() if where.type == "cuda" else peak_bytes()
    # Afterwards, since it keeps activations that checkpointing gives up.
    with FlopCounterMode(display=False) as counter:
        work()
    width = int(getattr(session.model, "num_features", 192))
    tokens = case.batch * (case.size // 16) ** 2
    return {
        "seconds": seconds,
        "operations": float(counter.get_total_flops()),
        "precision": session.accelerator.mixed_precision,
        "peak_bytes": peak,
        "limit": products(tokens, width, MIXED[session.accelerator.mixed_precision], where),
        "limit_float32": products(tokens, width, torch.float32, where),
    }


def conventional(case: Case) -> dict[str, Any]:
    """Steps of a plain loop with autocast, peft's LoRA on qkv, and the loss read at each."""
    import timm
    from peft import LoraConfig, get_peft_model

    from core.hardware import precision

    gpu = torch.cuda.is_available()
    where = torch.device("cuda" if gpu else "cpu")
    chosen = MIXED[precision.resolve_precision("auto", gpu=gpu).replace("fp32", "no")]
    network: Any = timm.create_model(
        case.backbone.removeprefix("timm:"), num_classes=14, img_size=case.size
    )
    if case.method == "lora":
        told = LoraConfig(
            r=4, lora_alpha=32, lora_dropout=0.1, target_modules=["qkv"], modules_to_save=["head"]
        )
        network = get_peft_model(network, told)
    network.to(where).train()
    trained = [one for one in network.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    images = torch.randn(case.batch, 3, case.size, case.size)
    targets = _batch(case, 14, 1)[1]

    def work() -> float:
        with torch.autocast(where.type, chosen, enabled=chosen != torch.float32):
            logits = network(images.to(where)).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.to(where))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    seconds = repeated(work, case.repeats)
    peak = torch.cuda.max_memory_allocated() if gpu else peak_bytes()
    return {"seconds": seconds, "peak_bytes": peak}


def products(rows: int, width: int, dtype: torch.dtype, where: torch.device) -> float:
    """Operations a second of the matrix products that a block's layers are.

    On a GPU it is the square product of 8192 instead, the device's peak.

    Args:
        rows: Tokens of a batch.
        width: Of the network.
        dtype: Of the factors.
        where: The device.
    """
    shapes = [(rows, width, 3 * width), (rows, width, width), (rows, width, 4 * width),
              (rows, 4 * width, width)]  # fmt: skip
    if where.type == "cuda":
        shapes = [(8192, 8192, 8192)]
    done, spent = 0.0, 0.0
    for n, k, m in shapes:
        a = torch.randn(n, k, device=where, dtype=dtype)
        b = torch.randn(k, m, device=where, dtype=dtype)

        def work(a: Tensor = a, b: Tensor = b) -> None:
            a @ b
            _wait(where)

        spent += min(repeated(work))
        done += 2.0 * n * k * m
    return done / spent


def rows(batches: tuple[int, ...], sizes: tuple[str, ...], repeats: int) -> list[Row]:
    """Images a second of each size, method and batch; then LoRA's memory against full's.

    The memory is told twice: as steps are by default, and with activation checkpointing.
    """
    found = []
    for batch in batches:
        for size in sizes:
            peaks = {}
            for method in METHODS:
                case = Case(SIZES[size], method, batch, repeats=repeats)
                mine, theirs = apart(ours, case), apart(conventional, case)
                peaks[method] = mine["peak_bytes"]
                found.append(_speed(f"step/{size}/{method}/{batch}", batch, mine, theirs))
            found.append(_memory(f"memory/{size}/{batch}", peaks))
            again = {
                method: apart(ours, Case(SIZES[size], method, batch, repeats=1, again=True))
                for method in METHODS
            }
            peaks = {method: one["peak_bytes"] for method, one in again.items()}
            found.append(_memory(f"memory/{size}/{batch}/checkpointing", peaks))
    return found


def profile() -> str:
    """torch.profiler's ten dearest operations of one epoch of the default run, as a table."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    from core.data import subsets
    from core.training import prepare
    from core.training.loop import train_epoch
    from core.training.setup import setup

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        session = setup(RunSpec().resolved(), place / "run", place / "cache", NullReporter())
        prepare.prepare(session, "train")
        ids = session.ids["train"]
        labels = dict(
            zip(ids, subsets.labels(session.dataset, ids, session.spec.data), strict=True)
        )
        kinds = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            kinds.append(ProfilerActivity.CUDA)
        with profiled(activities=kinds) as seen:
            started = time.perf_counter()
            train_epoch(session, labels)
            seconds = time.perf_counter() - started
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    table = seen.key_averages().table(sort_by=order, row_limit=10, max_name_column_width=40)
    return f"One epoch of {len(ids):,} pictures, {seconds:.2f} s\n{table}"


def _speed(name: str, batch: int, mine: dict[str, Any], theirs: dict[str, Any]) -> Row:
    seconds, (least, most) = middle(mine["seconds"])
    other, (others_least, others_most) = middle(theirs["seconds"])
    achieved = mine["operations"] / seconds
    more = {
        "spread": (batch / most, batch / least),
        "baseline_spread": (batch / others_most, batch / others_least),
        "precision": mine["precision"],
        "gigaflops": achieved / 1e9,
        "share_of_peak": achieved / mine["limit"],
        "share_of_float32_peak": achieved / mine["limit_float32"],
        "peak_bytes": mine["peak_bytes"],
        "baseline_peak_bytes": theirs["peak_bytes"],
    }
    return Row(name, batch / seconds, batch / other, "images/s", device(), "higher", more)


def _memory(name: str, peaks: dict[str, int]) -> Row:
    return Row(name, peaks["lora"] / 1e6, peaks["full"] / 1e6, "MB", device())


def _batch(case: Case, findings: int, channels: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    sides = (case.batch, channels, case.size, case.size)
    inputs = torch.randint(0, 256, sides, generator=random, dtype=torch.uint8)
    return inputs, torch.randint(0, 2, (case.batch, findings), generator=random).float()


def _first(model: torch.nn.Module) -> str:
    return next(name for name, one in model.named_parameters() if one.ndim == 4)


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize(where)
