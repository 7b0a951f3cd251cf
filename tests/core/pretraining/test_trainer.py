"""Pre-training on small images with a structure that can be learned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from core.errors import ConfigurationError, DataError, Stopped
from core.pretraining.crops import MEAN, STD, random_crops
from core.pretraining.dataset import Records
from core.pretraining.encoder import export_encoder
from core.pretraining.masked_autoencoder import MaskedAutoencoder, sine_positions
from core.pretraining.recipe import Origin, PretrainSettings
from core.pretraining.trainer import _Pretraining, pretrain

SMALL = PretrainSettings(
    architecture="test_vit", input_size=32, steps=12, batch_size=16, decoder_width=32, warmup=0.1
)


def waves(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Images of one plane wave each, which a few patches determine."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:36, :36] / 36
    angle, phase = rng.uniform(0, np.pi, (2, count, 1, 1))
    wave = np.sin(6 * (np.cos(angle) * x + np.sin(angle) * y) + 2 * phase)
    images: NDArray[np.uint8] = (127 + 100 * wave).astype(np.uint8)
    return images


def autoencoder(settings: PretrainSettings = SMALL) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(
        settings.architecture,
        settings.input_size,
        masked=0.75,
        predicted=0.5,
        decoder_width=32,
        decoder_depth=1,
        variance_floor=0.001,
    )


@pytest.mark.slow
def test_the_loss_falls_and_the_card_describes_the_training(tmp_path: Path) -> None:
    lines: list[str] = []
    settings = replace(SMALL, steps=80, lr=2e-3)
    path = pretrain(
        waves(256),
        tmp_path,
        settings=settings,
        log=lines.append,
        origin=Origin(data="waves", command="again"),
    )
    card = json.loads((tmp_path / "card.json").read_text())
    images, _ = random_crops(torch.from_numpy(waves(64)), 32, (0.4, 1), generator(1))
    first = float(autoencoder()(images, generator(2)).detach())
    assert card["loss"] < 0.9 * first
    assert card["steps"] == 80
    assert card["finished"]
    assert card["data"] == "waves"
    assert card["command"] == "again"
    assert card["images_seen"] == 80 * 16
    assert (card["mean"], card["std"]) == (MEAN, STD)
    assert path == tmp_path / "encoder.safetensors"
    assert "loss" in lines[-1]


def test_the_weights_fill_a_three_channel_vit(tmp_path: Path) -> None:
    state = load_file(pretrain(waves(32), tmp_path, settings=SMALL, log=lambda _: None))
    model = timm.create_model("test_vit", img_size=32, num_classes=0, global_pool="avg")
    fit = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    assert not fit.unexpected_keys
    assert set(fit.missing_keys) == {"fc_norm.weight", "fc_norm.bias"}
    assert {v.dtype for v in state.values()} == {torch.float16}


def test_a_repeated_grey_channel_gives_equal_patches(tmp_path: Path) -> None:
    settings = replace(SMALL, steps=2)
    pretrain(waves(32), tmp_path, settings=settings, log=lambda _: None)
    state = torch.load(tmp_path / "pretraining.pt", weights_only=True)["model"]
    grey = state["encoder.patch_embed.proj.weight"]
    colour = load_file(tmp_path / "encoder.safetensors")["patch_embed.proj.weight"].float()
    x = torch.randn(2, 1, 32, 32, generator=generator(0))
    one = torch.nn.functional.conv2d(x, grey, stride=16)
    three = torch.nn.functional.conv2d(x.expand(-1, 3, -1, -1), colour, stride=16)
    assert torch.allclose(one, three, atol=5e-3)


def test_an_interrupted_training_gives_the_same_weights(tmp_path: Path) -> None:
    whole = pretrain(waves(40), tmp_path / "whole", settings=SMALL, log=lambda _: None)
    asked = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        pretrain(
            waves(40),
            tmp_path / "parts",
            settings=SMALL,
            log=lambda _: None,
            should_stop=lambda: next(asked),
        )
    assert not json.loads((tmp_path / "parts" / "card.json").read_text())["finished"]
    lines: list[str] = []
    parts = pretrain(waves(40), tmp_path / "parts", settings=SMALL, log=lines.append)
    assert "Resuming at step 5" in lines[0]
    a, b = load_file(whole), load_file(parts)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_folder_of_another_pretraining_is_rejected(tmp_path: Path) -> None:
    settings = replace(SMALL, steps=2)
    pretrain(waves(32), tmp_path, settings=settings, log=lambda _: None)
    with pytest.raises(ConfigurationError, match=r"different batch_size, images\. Give"):
        pretrain(waves(33), tmp_path, settings=replace(settings, batch_size=8))


def test_a_time_budget_ends_with_the_rate_at_zero(tmp_path: Path) -> None:
    settings = replace(SMALL, steps=None, minutes=1 / 60)
    run = _Pretraining(Records(waves(32)), tmp_path, settings, Origin())
    rates = [run.rate()]

    def watch() -> bool:
        rates.append(run.rate())
        return False

    run.fit(lambda _: None, watch, {})
    assert 0.9 < run.seconds() < 5
    assert run.rate() == 0
    assert max(rates) > 0.8 * settings.lr
    assert rates[-1] < 0.3 * settings.lr


def test_the_encoder_receives_only_visible_patches() -> None:
    model = autoencoder()
    x = torch.randn(2, 1, 32, 32, generator=generator(3))
    seen: list[torch.Size] = []
    model.encoder.blocks[0].register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    model(x, generator(4))
    assert seen == [torch.Size([2, 2, model.encoder.embed_dim])]


def test_patches_are_in_the_order_of_the_convolution() -> None:
    model = autoencoder()
    x = torch.randn(2, 1, 32, 32, generator=generator(5))
    projection = model.encoder.patch_embed.proj
    ours = model.patches(x) @ projection.weight.flatten(1).T + projection.bias
    theirs = model.encoder.patch_embed(x).flatten(1, 2)  # this ViT keeps the grid here
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_positions_are_distinct() -> None:
    grid = sine_positions(64, 8)[0, 1:]
    near = grid @ grid.T
    assert torch.equal(near.argmax(1), torch.arange(64))
    assert sine_positions(64, 8)[0, 0].abs().sum() == 0


def test_pretraining_with_reports_resumes(tmp_path: Path) -> None:
    reports = ["bright sky.", "dark sky.", ""] * 8
    images = waves(24).repeat(2, 1).repeat(2, 2)
    settings = replace(SMALL, steps=8, precision="fp32")
    first = pretrain(images, tmp_path / "a", settings=settings, reports=reports, log=lambda _: None)
    card = json.loads((tmp_path / "a" / "card.json").read_text())
    assert card["reports"] == 16
    assert "records" in card["pretraining"]
    asked = iter([False] * 3 + [True])
    with pytest.raises(Stopped):
        pretrain(
            images, tmp_path / "b", settings=settings, reports=reports, log=lambda _: None,
            should_stop=lambda: next(asked),
        )  # fmt: skip
    with pytest.raises(ConfigurationError, match="different reports"):
        pretrain(
            images, tmp_path / "b", settings=settings, reports=["sky sky"] * 24,
            log=lambda _: None,
        )  # fmt: skip
    second = pretrain(
        images, tmp_path / "b", settings=settings, reports=reports, log=lambda _: None
    )
    a, b = load_file(first), load_file(second)
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
def test_bf16_reaches_the_loss_of_fp32(tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        settings = replace(SMALL, steps=60, lr=2e-3, precision=precision, device="cpu")
        pretrain(waves(256), tmp_path / precision, settings=settings, log=lambda _: None)
        card = json.loads((tmp_path / precision / "card.json").read_text())
        assert card["precision"] == precision
        losses[precision] = card["loss"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.03)


def test_it_starts_from_given_weights(tmp_path: Path) -> None:
    first = pretrain(waves(32), tmp_path / "a", settings=SMALL, log=lambda _: None)
    (tmp_path / "b").mkdir()
    run = _Pretraining(Records(waves(32)), tmp_path / "b", SMALL, Origin(), first)
    began, wanted = export_encoder(run.model.encoder), load_file(first)
    assert all(torch.allclose(began[k], wanted[k], atol=1e-3) for k in wanted)
    run.save(finished=False)
    with pytest.raises(ConfigurationError, match="different start"):
        pretrain(waves(32), tmp_path / "b", settings=SMALL)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": None}, "steps"),
        ({"steps": 0}, "steps"),
        ({"minutes": 0.0}, "minutes"),
        ({"masked": 1.0}, "masked"),
        ({"predicted": 0.9}, "predicted"),
        ({"crop": (0.8, 0.4)}, "crop"),
        ({"words_masked": 1.0}, "words_masked"),
        ({"precision": "fp8"}, "precision"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_invalid_settings_are_rejected(change: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        replace(SMALL, **change)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize("shape", [(0, 32, 32), (32, 32)])
def test_other_arrays_are_rejected(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="shape"):
        pretrain(np.zeros(shape, np.uint8), tmp_path)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
