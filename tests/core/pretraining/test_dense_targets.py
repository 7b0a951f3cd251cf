"""Dense targets: what they mark, that crops cut them alike, and that they are learnt."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.data.phantoms.dataset import Phantom
from core.pretraining.crops import MEAN, STD, random_crops
from core.pretraining.dataset import Records
from core.pretraining.dense_targets import TARGETS, collect_dense, dense_loss, dense_maps
from core.pretraining.masked_autoencoder import MaskedAutoencoder
from core.pretraining.recipe import PretrainSettings
from core.pretraining.trainer import pretrain

PHANTOMS = Phantom("phantom-14", seed=5, train=24, val=1, test=1)


def test_differences_are_those_from_the_healthy_patient() -> None:
    sick = next(s for s in PHANTOMS.ids("train") if PHANTOMS.masks(s))
    well = next(s for s in PHANTOMS.ids("train") if not PHANTOMS.masks(s))
    changed, same = (dense_maps(PHANTOMS, study, 64)[:2] for study in (sick, well))
    assert changed.max() > 100
    assert same.max() == 0
    covered = np.any(list(PHANTOMS.masks(sick, 64).values()), axis=0)
    inside, outside = (changed.max(axis=0)[part].mean() for part in (covered, ~covered))
    assert inside > 2 * outside


def test_maps_are_kept_in_the_cache(tmp_path: Path) -> None:
    ids = PHANTOMS.ids("train")[:3]
    made = collect_dense(PHANTOMS, ids, tmp_path, 32)
    assert made.shape == (3, len(TARGETS), 32, 32)
    (file,) = tmp_path.iterdir()
    stamp = file.stat().st_mtime_ns
    assert (collect_dense(PHANTOMS, ids, tmp_path, 32) == made).all()
    assert file.stat().st_mtime_ns == stamp
    assert (made[1] == dense_maps(PHANTOMS, ids[1], 32)).all()


def test_crops_cut_maps_as_they_cut_images() -> None:
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (6, 48, 48), np.uint8))
    maps = images[:4, None].clone()
    crops, shares = random_crops(
        images, 48, (0.4, 0.8), torch.Generator().manual_seed(0), maps=maps
    )
    assert shares is not None
    assert shares.shape == (4, 1, 48, 48)
    inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    assert torch.allclose(crops[:4][inside] * STD + MEAN, shares[inside], atol=1e-5)


def test_only_images_with_targets_come_first_with_them() -> None:
    images = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    dense = images[:4, None]
    drawn, _, maps = Records(images, dense=dense).draw(0, 10, 3)
    assert maps is not None
    assert len(maps) == 4
    assert (drawn[:4, 0, 0] == maps[:, 0, 0, 0]).all()
    assert sorted(drawn[:, 0, 0].tolist()) == list(range(10))


def test_the_loss_is_least_at_the_shares() -> None:
    maps = torch.rand(2, len(TARGETS), 16, 16)
    shares = maps.unflatten(2, (4, 4)).unflatten(4, (4, 4)).mean((3, 5))
    weights = torch.tensor([3.0, 3, 1, 1, 3])[:, None, None]
    best = torch.logit(weights * shares / (weights * shares + 1 - shares))
    least = dense_loss(best, maps)
    for shift in (-0.3, 0.3):
        assert dense_loss(best + shift, maps) > least


def test_logits_are_a_grid_over_the_image() -> None:
    model = MaskedAutoencoder(
        "test_vit", 32, masked=0.5, predicted=0.5, decoder_width=32, decoder_depth=1,
        variance_floor=1e-2, targets=2, cells=4,
    )  # fmt: skip
    with torch.no_grad():
        model.dense.weight.zero_()
        # The logits of one part of each patch: the second target, second row, third column.
        model.dense.bias.copy_(torch.nn.functional.one_hot(torch.tensor(16 + 4 + 2), 32).float())
        logits = model.dense_logits(torch.rand(1, 1, 32, 32))
    assert logits.shape == (1, 2, 8, 8)
    assert logits.nonzero().tolist() == [[0, 1, y, x] for y in (1, 5) for x in (2, 6)]


@pytest.mark.parametrize("reports", [False, True])
def test_tokens_learn_their_targets_and_resume(tmp_path: Path, reports: bool) -> None:
    ids = PHANTOMS.ids("train")
    side = 64 if reports else 36
    images = np.stack([PHANTOMS.read(study, side) for study in ids])
    dense = np.stack([dense_maps(PHANTOMS, study, 32) for study in ids])
    texts = [PHANTOMS.report(study) for study in ids] if reports else None
    settings = PretrainSettings(
        architecture="test_vit", input_size=32, steps=4, batch_size=8, decoder_width=32,
        decoder_depth=1, precision="fp32", device="cpu", dense_weight=1e6,
    )  # fmt: skip
    lines: list[str] = []
    pretrain(images, tmp_path, settings=settings, reports=texts, dense=dense, log=lines.append)
    state = torch.load(tmp_path / "pretraining.pt", weights_only=True)
    assert state["losses"][-1] < state["losses"][0]
    assert state["identity"]["dense"]
    assert not any("dense" in name for name in load_file(tmp_path / "encoder.safetensors"))
    again: list[str] = []
    pretrain(images, tmp_path, settings=settings, reports=texts, dense=dense, log=again.append)
    assert again[0].startswith("Resuming at step 4")
