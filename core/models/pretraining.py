"""Masked autoencoding (He et al. 2022, arXiv 2111.06377) of a small ViT on radiographs.

It is meant for an hour on a laptop's processor, so what costs time is kept small: the encoder sees
one grey channel and only the visible quarter of the patches, the decoder is narrow and predicts
half of the masked patches, and the crops are cut from an array in memory by one call.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from core.errors import ConfigurationError, DataError, NotFiniteError, Stopped
from core.models.masked_autoencoder import Features, MaskedAutoencoder

MEAN, STD = 0.5, 0.25
"""Grey level (0 to 1) and spread that the input is normalised with; fixed, not measured."""

CHECKPOINT = "pretraining.pt"
LOG_SECONDS, PROBES = 20.0, 8


@dataclass(frozen=True)
class PretrainSettings:
    """How a backbone is pre-trained.

    Attributes:
        architecture: Name of a timm ViT without registers and with a class token.
        input_size: Side of the crops in pixels, a multiple of the patch size.
        steps: Steps of the optimizer; the cosine ends there. None: as many as ``minutes`` allow.
        minutes: Time budget, summed over interruptions. Where both are given, whichever is
            further ahead drives the cosine, so that it always ends at zero.
        batch_size: Images a step. After 29,000 images, at the same rate, batches of 64 had come to
            a loss of 0.76 and batches of 128 to one of 0.83.
        lr: Peak learning rate.
        weight_decay: Of AdamW (betas 0.9 and 0.95), on matrices only.
        warmup: Share of the steps (or of the time) with a linearly rising rate.
        masked: Share of the patches that the encoder does not see.
        predicted: Share of all patches that the decoder has to draw, taken from the masked ones.
        decoder_width: Width of the decoder, a multiple of 32.
        decoder_depth: Blocks of the decoder.
        crop: Smallest and largest area of a crop as a share of the picture. Radiographs are framed
            alike, and a fifth of one (the published lower end) shows one rib, so it is 0.4.
        variance_floor: Added to the variance of a patch's normalised pixels before its target is
            divided by it: two grey levels' worth, so that noise in air is not a target.
        seed: Seed of weights, order, crops and masks.
        checkpoint_seconds: Time between checkpoints.
    """

    architecture: str = "vit_tiny_patch16_224"
    input_size: int = 128
    steps: int | None = 8_000
    minutes: float | None = None
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    masked: float = 0.75
    predicted: float = 0.375
    decoder_width: int = 128
    decoder_depth: int = 2
    crop: tuple[float, float] = (0.4, 1.0)
    variance_floor: float = 1e-3
    seed: int = 0
    checkpoint_seconds: float = 180.0

    def __post_init__(self) -> None:
        faults = [
            (self.steps is None and self.minutes is None, "give steps or minutes", "steps"),
            (self.steps is not None and self.steps < 1, "steps must be at least 1", "steps"),
            (self.minutes is not None and self.minutes <= 0, "minutes must be above 0", "minutes"),
            (not 0 < self.masked < 1, "masked must lie between 0 and 1", "masked"),
            (
                not 0 < self.predicted <= self.masked,
                "predicted must be above 0 and at most masked",
                "predicted",
            ),
            (not 0 < self.crop[0] <= self.crop[1] <= 1, "crop must rise within (0, 1]", "crop"),
        ]
        for wrong, sentence, field in faults:
            if wrong:
                raise ConfigurationError(f"Pre-training: {sentence}.", field=field)


def random_crops(
    pictures: Tensor, size: int, area: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Cut a random part of each picture, resize it, flip every other one, and normalise.

    Args:
        pictures: uint8 grey of shape [B, H, W].
        size: Side of the crops.
        area: Smallest and largest share of the picture; the ratio of the sides is 3:4 to 4:3.
        generator: Draws the crops.

    Returns:
        float32 of shape [B, 1, size, size], normalised by ``MEAN`` and ``STD``.
    """
    count = len(pictures)
    draws = torch.rand(5, count, generator=generator)
    share = area[0] + (area[1] - area[0]) * draws[0]
    ratio = torch.exp((2 * draws[1] - 1) * math.log(4 / 3))
    width, height = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
    flip = torch.where(draws[4] < 0.5, -1.0, 1.0)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = width * flip, height
    affine[:, 0, 2] = (1 - width) * (2 * draws[2] - 1)
    affine[:, 1, 2] = (1 - height) * (2 * draws[3] - 1)
    grid = functional.affine_grid(affine, [count, 1, size, size], align_corners=False)
    grey = pictures[:, None].float().div_(255).sub_(MEAN).div_(STD)
    return functional.grid_sample(grey, grid, padding_mode="border", align_corners=False)


def linear_probe(
    train: tuple[NDArray[np.uint8], NDArray[np.float32]],
    test: tuple[NDArray[np.uint8], NDArray[np.float32]],
    *,
    input_size: int = 128,
    ridge: float = 1.0,
) -> Callable[[nn.Module], float]:
    """Make a cheap readout of a backbone: ridge regression on its features, mean AUROC.

    Args:
        train: Pictures [N, H, W] and labels [N, F] (0 or 1) that the regression is fitted to.
        test: Pictures and labels it is judged by.
        input_size: Side that the pictures are resized to.
        ridge: Penalty on the weights of the standardised features.

    Returns:
        A callable for ``pretrain(probe=…)``.
    """

    def features(module: nn.Module, pictures: NDArray[np.uint8]) -> Tensor:
        parts = np.array_split(pictures, max(1, len(pictures) // 256))
        return torch.cat([module(_resized(part, input_size)) for part in parts]).double()

    def probe(module: nn.Module) -> float:
        from sklearn.metrics import roc_auc_score

        with torch.inference_mode():
            known, asked = features(module, train[0]), features(module, test[0])
            mean, spread = known.mean(0), known.std(0) + 1e-6
            known, asked = (known - mean) / spread, (asked - mean) / spread
            labels = torch.from_numpy(train[1]).double()
            gram = known.T @ known + ridge * torch.eye(known.shape[1], dtype=torch.float64)
            weights = torch.linalg.solve(gram, known.T @ (labels - labels.mean(0)))
            scores = (asked @ weights).numpy()
        usable = [f for f in range(scores.shape[1]) if 0 < test[1][:, f].mean() < 1]
        return float(np.mean([roc_auc_score(test[1][:, f], scores[:, f]) for f in usable]))

    return probe


def _resized(pictures: NDArray[np.uint8], size: int) -> Tensor:
    grey = torch.from_numpy(pictures)[:, None].float().div_(255).sub_(MEAN).div_(STD)
    if grey.shape[-2:] == (size, size):
        return grey
    return functional.interpolate(grey, (size, size), mode="bilinear", antialias=True)


def pretrain(
    images: NDArray[np.uint8],
    folder: Path,
    *,
    settings: PretrainSettings | None = None,
    log: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
    probe: Callable[[nn.Module], float] | None = None,
    data: str = "",
    command: str = "",
) -> Path:
    """Pre-train a backbone, or go on where an earlier call in the same folder was interrupted.

    Args:
        images: uint8 grey of shape [N, H, W]; a little larger than ``input_size`` is best (144).
        folder: Where ``encoder.safetensors`` (float16, timm's names, three input channels),
            ``card.json`` and the checkpoint go.
        settings: How to train; by default ``PretrainSettings()``.
        log: Is told a line about every twenty seconds.
        should_stop: Asked at every step.
        probe: Scores features as training goes, at most eight times; see ``linear_probe``. Its
            time counts as time of training.
        data: What the images are, for the card.
        command: How to make the weights again, for the card.

    Returns:
        The path of ``encoder.safetensors``.

    Raises:
        Stopped: ``should_stop`` said so; a checkpoint is written, the next call resumes it.
        DataError: The array is not a stack of grey pictures.
        ConfigurationError: The folder holds a checkpoint of other settings or images.
        NotFiniteError: The loss became NaN or infinite.
    """
    settings = settings or PretrainSettings()
    if images.ndim != 3 or images.dtype != np.uint8 or not len(images):
        raise DataError(
            f"Pre-training needs uint8 pictures of shape [N, H, W], not {images.dtype} of shape "
            f"{list(images.shape)}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    run = _Pretraining(images, folder, settings, {"data": data, "command": command})
    if run.restore():
        log(f"Resuming at step {run.step}, {run.seconds() / 60:.1f} min in.")
    run.fit(log, should_stop, probe)
    return run.save(finished=True)


class _Pretraining:
    """The state of one pre-training, which ``pretrain`` drives."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        folder: Path,
        settings: PretrainSettings,
        origin: dict[str, str],
    ) -> None:
        self.images, self.folder, self.settings, self.origin = images, folder, settings, origin
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = MaskedAutoencoder(
                settings.architecture,
                settings.input_size,
                masked=settings.masked,
                predicted=settings.predicted,
                decoder_width=settings.decoder_width,
                decoder_depth=settings.decoder_depth,
                variance_floor=settings.variance_floor,
            )
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
        self.scores: list[tuple[int, float]] = []
        self.identity = {
            **{k: v for k, v in asdict(settings).items() if k != "checkpoint_seconds"},
            "images": hashlib.sha256(np.ascontiguousarray(images).data).hexdigest(),
        }
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def seconds(self) -> float:
        """Time spent training, over all attempts."""
        return self.spent + time.monotonic() - self.since

    def progress(self) -> float:
        """How far the schedule is, 0 to 1: the planned steps or the time, whichever is further."""
        done = [0.0]
        if self.settings.steps is not None:
            done.append(self.step / self.settings.steps)
        if self.settings.minutes is not None:
            done.append(self.seconds() / 60 / self.settings.minutes)
        return min(1.0, max(done))

    def rate(self) -> float:
        """The learning rate now: a linear rise, then half a cosine to zero."""
        progress, warmup = self.progress(), self.settings.warmup
        if progress < warmup:
            peak = max(progress, 1e-3) / warmup
        else:
            peak = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
        return self.settings.lr * peak

    def batch(self, generator: torch.Generator) -> Tensor:
        """The crops of the current step, which depend on seed and step alone."""
        count, size = len(self.images), self.settings.batch_size
        places = np.arange(self.step * size, (self.step + 1) * size)
        parts = []
        for epoch in np.unique(places // count):
            if self._epoch[0] != epoch:
                order = np.random.default_rng([self.settings.seed, int(epoch)]).permutation(count)
                self._epoch = (int(epoch), order)
            parts.append(self._epoch[1][places[places // count == epoch] % count])
        pictures = torch.from_numpy(self.images[np.concatenate(parts)])
        return random_crops(pictures, self.settings.input_size, self.settings.crop, generator)

    def advance(self) -> float:
        """Train one step and return its loss."""
        generator = torch.Generator().manual_seed(self.settings.seed * 2**32 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        loss = self.model(self.batch(generator), generator)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NotFiniteError(
                f"The loss of pre-training became {value} at step {self.step}.",
                "Lower the learning rate and begin in an empty folder.",
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
        probe: Callable[[nn.Module], float] | None,
    ) -> None:
        """Train until the schedule ends."""
        told = saved = time.monotonic()
        told_step, probed = self.step, int(self.progress() * PROBES)
        self.model.train()
        while self.progress() < 1:
            if should_stop():
                self.save(finished=False)
                raise Stopped
            self.advance()
            now = time.monotonic()
            if now - told > LOG_SECONDS:
                speed = (self.step - told_step) * self.settings.batch_size / (now - told)
                log(self._line(speed))
                told, told_step = now, self.step
            if now - saved > self.settings.checkpoint_seconds:
                self.save(finished=False)
                saved = time.monotonic()
            if probe and int(self.progress() * PROBES) > probed:
                self._probe(probe, log)
                probed = int(self.progress() * PROBES)
        log(self._line(self.step * self.settings.batch_size / max(self.seconds(), 1e-9)))

    def _line(self, speed: float) -> str:
        progress = self.progress()
        left = self.seconds() * (1 - progress) / max(progress, 1e-9) / 60
        return (
            f"step {self.step}  loss {np.mean(self.losses):.4f}  lr {self.rate():.2e}  "
            f"{speed:.0f} images/s  {left:.0f} min left"
        )

    def _probe(self, probe: Callable[[nn.Module], float], log: Callable[[str], None]) -> None:
        self.model.eval()
        score = probe(Features(self.model.encoder))
        self.model.train()
        self.scores.append((self.step, score))
        log(f"step {self.step}  probe {score:.4f}")

    def save(self, *, finished: bool) -> Path:
        """Write checkpoint, encoder and card, each all or not at all; return the encoder's path."""
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds(),
            "losses": list(self.losses),
            "scores": self.scores,
        }
        encoder = {k: v.half().contiguous() for k, v in self._encoder().items()}
        path = self.folder / "encoder.safetensors"
        _replace(self.folder / CHECKPOINT, lambda part: torch.save(state, part))
        _replace(path, lambda part: save_file(encoder, part, metadata={"format": "pt"}))
        card = json.dumps(self._card(path, finished), indent=2) + "\n"
        _replace(self.folder / "card.json", lambda part: part.write_text(card))
        return path

    def _encoder(self) -> dict[str, Tensor]:
        kept = {
            key: value.detach()
            for key, value in self.model.encoder.state_dict().items()
            if not key.startswith(("norm.", "fc_norm.", "head."))
        }
        # A grey picture repeated to three channels must give what one channel gave.
        kept["patch_embed.proj.weight"] = kept["patch_embed.proj.weight"].repeat(1, 3, 1, 1) / 3
        return kept

    def _card(self, path: Path, finished: bool) -> dict[str, Any]:
        settings, seen = self.settings, self.step * self.settings.batch_size
        return {
            "architecture": settings.architecture,
            "input_size": settings.input_size,
            "mean": MEAN,
            "std": STD,
            "pretraining": "masked autoencoding (He et al. 2022)",
            "data": self.origin["data"],
            "images": len(self.images),
            "image_size": list(self.images.shape[1:]),
            "images_sha256": self.identity["images"],
            "steps": self.step,
            "images_seen": seen,
            "epochs": round(seen / len(self.images), 2),
            "loss": round(float(np.mean(self.losses)), 5) if self.losses else None,
            "probe_auroc": [{"step": s, "auroc": round(v, 4)} for s, v in self.scores],
            "seconds": round(self.seconds(), 1),
            "images_per_s": round(seen / max(self.seconds(), 1e-9), 1),
            "threads": torch.get_num_threads(),
            "finished": finished,
            "settings": asdict(settings),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "versions": {"torch": torch.__version__, "timm": timm.__version__},
            "command": self.origin["command"],
        }

    def restore(self) -> bool:
        """Go back to the checkpoint of the folder, if there is one."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        other = [key for key, value in self.identity.items() if state["identity"][key] != value]
        if other:
            raise ConfigurationError(
                f"{self.folder} holds a pre-training with other {', '.join(other)}.",
                "Give another folder, or the same settings to resume it.",
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent, self.since = state["step"], state["seconds"], time.monotonic()
        self.losses.extend(state["losses"])
        self.scores = [(step, score) for step, score in state["scores"]]
        return True


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)
