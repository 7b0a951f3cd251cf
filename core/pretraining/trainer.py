"""Training loop of pre-training: masked autoencoding or masked record modelling of a small ViT.

It is designed for an hour on a laptop's CPU: the encoder has one grey input channel and processes
only the visible quarter of the patches, the decoder is narrow and predicts half of the masked
patches, and the crops of a batch are cut from an array in memory by one call.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

from core.errors import ConfigurationError, NotFiniteError, Stopped
from core.files import write_atomically
from core.hardware import precision
from core.models.backbones import bf16_attention, checkpoints
from core.pretraining.crops import MEAN, STD, random_crops
from core.pretraining.dataset import Records
from core.pretraining.dense_targets import TARGETS, dense_loss
from core.pretraining.encoder import export_encoder, load_encoder
from core.pretraining.masked_autoencoder import Features, MaskedAutoencoder
from core.pretraining.masked_records import MaskedRecord
from core.pretraining.recipe import Origin, PretrainSettings

CHECKPOINT = "pretraining.pt"
Probe = Callable[[nn.Module], float]
LOG_SECONDS, PROBES = 20.0, 8

METHODS = ("masked autoencoding (He et al. 2022)", "masked records (Zhou et al. 2023)")

RESUMABLE = ("checkpoint_seconds", "device")
"""Settings that can differ when a pre-training is resumed."""


def pretrain(
    images: NDArray[np.uint8],
    folder: Path,
    *,
    settings: PretrainSettings | None = None,
    times: NDArray[np.int64] | None = None,
    reports: Sequence[str] | None = None,
    dense: NDArray[np.uint8] | None = None,
    start: Path | None = None,
    log: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
    probes: Mapping[str, Probe] | None = None,
    origin: Origin | None = None,
) -> Path:
    """Pre-train a backbone, or resume an interrupted pre-training in the same folder.

    Args:
        images: Grey images, uint8 of shape [N, H, W]; ideally a little larger than ``input_size``
            (144 for 128).
        folder: Folder for ``encoder.safetensors`` (float16, timm's names, three input channels),
            ``card.json`` and the checkpoint.
        settings: Settings; by default ``PretrainSettings()``.
        times: How often an epoch contains each image, shape [N]; by default once.
        reports: The report of each image; an empty text if it has none. With reports the objective
            is masked record modelling (``MaskedRecord``). Images are then ideally twice as large as
            ``input_size``, and they are not mirrored, because reports distinguish left and right.
        dense: Dense targets of the first images, see ``core.pretraining.dense_targets``. The tokens
            of these images, without masks, then also predict them.
        start: Initial weights of the encoder, with timm's names; by default random weights.
        log: Receives a line of progress about every twenty seconds.
        should_stop: Called at every step.
        probes: Functions that score the features during training, up to eight times; see
            ``linear_probe``. Their time counts as training time.
        origin: Origin of data and weights, for the card.

    Returns:
        The path of ``encoder.safetensors``.

    Raises:
        Stopped: ``should_stop`` returned True. A checkpoint was written; the next call resumes it.
        DataError: The array is not a stack of grey images, or their number differs from that of
            the reports.
        ModelError: The initial weights do not fit the encoder.
        ConfigurationError: The folder contains a checkpoint with other settings or images.
        NotFiniteError: The loss became NaN or infinite.
        WriteError: A file cannot be written.
    """
    settings = settings or PretrainSettings()
    records = Records(images, times, reports, dense)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Pretraining(records, folder, settings, origin or Origin(), start)
    if run.restore():
        log(f"Resuming at step {run.step}, after {run.seconds() / 60:.1f} min of training.")
    run.fit(log, should_stop, probes or {})
    return run.save(finished=True)


class _Pretraining:
    """State and steps of a pre-training; ``pretrain`` runs it."""

    def __init__(
        self,
        records: Records,
        folder: Path,
        settings: PretrainSettings,
        origin: Origin,
        start: Path | None = None,
    ) -> None:
        self.records, self.folder, self.settings, self.origin = records, folder, settings, origin
        self.device, self.precision = _device_and_precision(settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = self._network()
        if self.precision == "bf16" and self.device.type == "cpu":
            bf16_attention.install(self.model)
        if start is not None:
            load_encoder(self.model.encoder, start)
        self.model.to(self.device)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.ndim == 2 or p.ndim == 4]},
            {"params": [p for p in trained if p.ndim in (1, 3)], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=0.0, betas=(0.9, 0.95), weight_decay=settings.weight_decay, fused=True
        )
        self.step, self.spent, self.since = 0, 0.0, time.monotonic()
        self.losses: deque[float] = deque(maxlen=200)
        self.scores: list[dict[str, float]] = []
        self.identity = {
            **{k: v for k, v in asdict(settings).items() if k not in RESUMABLE},
            **records.digests(),
            "start": None if start is None else checkpoints.sha256(start),
        }

    def _network(self) -> MaskedAutoencoder:
        settings, records = self.settings, self.records
        arguments: dict[str, Any] = {
            "masked": settings.masked,
            "predicted": settings.predicted,
            "decoder_width": settings.decoder_width,
            "decoder_depth": settings.decoder_depth,
            "variance_floor": settings.variance_floor,
            "targets": 0 if records.dense is None else records.dense.shape[1],
        }
        if records.words is None or records.vocabulary is None:
            return MaskedAutoencoder(settings.architecture, settings.input_size, **arguments)
        return MaskedRecord(
            settings.architecture,
            settings.input_size,
            vocabulary=len(records.vocabulary),
            longest=records.words.shape[1],
            words_masked=settings.words_masked,
            **arguments,
        )

    def seconds(self) -> float:
        """Training time in seconds, earlier calls included."""
        return self.spent + time.monotonic() - self.since

    def progress(self) -> float:
        """Progress of the schedule, 0 to 1: of the steps or of the time, whichever is further."""
        done = [0.0]
        if self.settings.steps is not None:
            done.append(self.step / self.settings.steps)
        if self.settings.minutes is not None:
            done.append(self.seconds() / 60 / self.settings.minutes)
        return min(1.0, max(done))

    def rate(self) -> float:
        """The current learning rate: linear warm-up, then cosine decay to zero."""
        progress, warmup = self.progress(), self.settings.warmup
        if progress < warmup:
            peak = max(progress, 1e-3) / warmup
        else:
            peak = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
        return self.settings.lr * peak

    def loss(self) -> Any:
        """The loss of the current step; crops and masks depend only on the seed and the step."""
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed * 2**32 + self.step)
        images, words, maps = self.records.draw(self.step, settings.batch_size, settings.seed)
        crops, shares = (
            random_crops(  # in float32: bf16 coordinates would be off by a quarter of a pixel
                images.to(self.device),
                settings.input_size * self.model.scale,
                settings.crop,
                generator,
                mirror=words is None,
                maps=None if maps is None else maps.to(self.device),
            )
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            given = () if words is None else (words.to(self.device),)
            loss = self.model(crops, generator, *given)
            if shares is None or not len(shares):
                return loss
            logits = self.model.dense_logits(crops[: len(shares)])
        return loss + settings.dense_weight * dense_loss(logits, shares)

    def advance(self) -> float:
        """Run one optimizer step and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        loss = self.loss()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NotFiniteError(
                f"The loss of pre-training became {value} at step {self.step}.",
                "Lower the learning rate and start again in an empty folder.",
            )
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.losses.append(value)
        return value

    def fit(
        self,
        log: Callable[[str], None],
        should_stop: Callable[[], bool],
        probes: Mapping[str, Probe],
    ) -> None:
        """Train until the schedule ends."""
        logged = saved = time.monotonic()
        logged_step, probed = self.step, int(self.progress() * PROBES)
        self.model.train()
        while self.progress() < 1:
            if should_stop():
                self.save(finished=False)
                raise Stopped
            self.advance()
            now = time.monotonic()
            if now - logged > LOG_SECONDS:
                speed = (self.step - logged_step) * self.settings.batch_size / (now - logged)
                log(self._line(speed))
                logged, logged_step = now, self.step
            if now - saved > self.settings.checkpoint_seconds:
                self.save(finished=False)
                saved = time.monotonic()
            if probes and int(self.progress() * PROBES) > probed:
                self._probe(probes, log)
                probed = int(self.progress() * PROBES)
        log(self._line(self.step * self.settings.batch_size / max(self.seconds(), 1e-9)))

    def _line(self, speed: float) -> str:
        progress = self.progress()
        left = self.seconds() * (1 - progress) / max(progress, 1e-9) / 60
        return (
            f"step {self.step}  loss {np.mean(self.losses):.4f}  lr {self.rate():.2e}  "
            f"{speed:.0f} images/s  {left:.0f} min left"
        )

    def _probe(self, probes: Mapping[str, Probe], log: Callable[[str], None]) -> None:
        self.model.eval()
        scores = {name: probe(Features(self.model.encoder)) for name, probe in probes.items()}
        self.model.train()
        scores = {name: score for name, score in scores.items() if math.isfinite(score)}
        self.scores.append({"step": self.step, **scores})
        text = "  ".join(f"{name} {score:.4f}" for name, score in scores.items())
        log(f"step {self.step}  probe AUROC  {text}")

    def save(self, *, finished: bool) -> Path:
        """Write checkpoint, encoder and card, each atomically; return the encoder's path."""
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds(),
            "losses": list(self.losses),
            "scores": self.scores,
        }
        path = self.folder / "encoder.safetensors"
        write_atomically(self.folder / CHECKPOINT, lambda file: torch.save(state, file))
        weights = export_encoder(self.model.encoder)
        write_atomically(path, save(weights, metadata={"format": "pt"}))
        card = json.dumps(self._card(path, finished), indent=2) + "\n"
        write_atomically(self.folder / "card.json", card.encode())
        return path

    def _card(self, path: Path, finished: bool) -> dict[str, Any]:
        settings, records = self.settings, self.records
        seen = self.step * settings.batch_size
        return {
            "architecture": settings.architecture,
            "input_size": settings.input_size,
            "mean": MEAN,
            "std": STD,
            "pretraining": METHODS[records.words is not None],
            "dense_targets": [] if records.dense is None else list(TARGETS),
            "data": self.origin.data,
            "sets": [dict(record) for record in self.origin.sets],
            "start": self.origin.start,
            "start_sha256": self.identity["start"],
            "images": len(records.images),
            "reports": records.reported,
            "image_size": list(records.images.shape[1:]),
            "images_sha256": self.identity["images"],
            "steps": self.step,
            "images_seen": seen,
            "epochs": round(seen / len(records.epoch_images), 2),
            "loss": round(float(np.mean(self.losses)), 5) if self.losses else None,
            "probe_auroc": [
                {name: round(value, 4) for name, value in scores.items()} for scores in self.scores
            ],
            "seconds": round(self.seconds(), 1),
            "images_per_s": round(seen / max(self.seconds(), 1e-9), 1),
            "precision": self.precision,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "finished": finished,
            "settings": asdict(settings),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "versions": {"torch": torch.__version__, "timm": timm.__version__},
            "command": self.origin.command,
        }

    def restore(self) -> bool:
        """Load the folder's checkpoint, if there is one; return whether there was."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state["identity"]
        differing = [key for key, value in self.identity.items() if saved.get(key) != value]
        if differing:
            raise ConfigurationError(
                f"{self.folder} contains a pre-training with different {', '.join(differing)}.",
                "Give another folder, or the same settings to resume it.",
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent, self.since = state["step"], state["seconds"], time.monotonic()
        self.losses.extend(state["losses"])
        self.scores = state["scores"]
        return True


def _device_and_precision(settings: PretrainSettings) -> tuple[torch.device, str]:
    """The device, and the precision that suits it."""
    gpu = torch.cuda.is_available() and settings.device != "cpu"
    if settings.device == "cuda" and not gpu:
        raise ConfigurationError("PyTorch finds no CUDA GPU.", "Choose the device cpu or auto.")
    resolved = precision.resolve_precision(settings.precision, gpu=gpu)
    return torch.device("cuda" if gpu else "cpu"), "fp32" if resolved == "fp16" else resolved
