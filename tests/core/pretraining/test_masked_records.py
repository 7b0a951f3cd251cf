"""Masked record modelling on images and words with a relation that can be learned."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.pretraining.masked_records import MaskedRecord
from core.pretraining.vocabulary import MASK, PAD

WORDS = 12


def network() -> MaskedRecord:
    torch.manual_seed(0)
    return MaskedRecord(
        "test_vit",
        32,
        vocabulary=WORDS,
        longest=6,
        words_masked=0.5,
        masked=0.5,
        predicted=0.5,
        decoder_width=32,
        decoder_depth=1,
        variance_floor=0.001,
    )


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def records(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Bright or dark images; every word of a report depends on the brightness."""
    bright = torch.rand(count, generator=generator(seed)) < 0.5
    noise = 0.1 * torch.randn(count, 1, 64, 64, generator=generator(seed + 1))
    images = noise + torch.where(bright, 1.0, -1.0)[:, None, None, None]
    words = torch.where(bright, 5, 7)[:, None].repeat(1, 6)
    return images, words


def test_patches_are_predicted_at_twice_the_resolution() -> None:
    model = network()
    images, _ = records(3)
    seen: list[torch.Size] = []
    drawn: list[torch.Size] = []
    model.encoder.blocks[0].register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    model.predict.register_forward_hook(lambda _, __, given: drawn.append(given.shape))
    model(images, generator(0))
    assert seen == [torch.Size([3, 1 + 2, model.encoder.embed_dim])]
    assert drawn == [torch.Size([3, 2, 32 * 32])]


def test_words_are_predicted_from_the_image() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.words_masked = 1.0  # only the image contains the information
    for step in range(60):
        images, words = records(32, step)
        _, encoded = model.reconstruct(images, generator(step))
        loss = model.word_loss(encoded, words, generator(step))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    images, words = records(64, 99)
    with torch.no_grad():
        _, encoded = model.reconstruct(images, generator(1))
        correct = float(model.word_loss(encoded, words, generator(2)))
        _, other = model.reconstruct(-images, generator(1))
        wrong = float(model.word_loss(other, words, generator(2)))
    assert correct < 0.35  # chance level is 0.69
    assert wrong > 1


def test_padding_is_ignored() -> None:
    model = network().eval()
    images, words = records(4)
    short = words.clone()
    short[:, 4:] = PAD
    with torch.no_grad():
        _, encoded = model.reconstruct(images, generator(0))
        whole = model.word_loss(encoded, short, generator(1))
        noisy = model.word_loss(encoded[:2], short[:2], generator(1))
        none = model.word_loss(encoded, torch.full_like(words, PAD), generator(1))
    assert torch.isfinite(whole)
    assert torch.isfinite(noisy)
    assert float(none) == 0


def test_masked_words_cannot_be_seen() -> None:
    model = network().eval()
    images, words = records(4)
    shown: list[Tensor] = []
    model.word.register_forward_hook(lambda _, given, __: shown.append(given[0]))
    with torch.no_grad():
        _, encoded = model.reconstruct(images, generator(0))
        model.word_loss(encoded, words, generator(1))
    hidden = shown[0] == MASK
    assert 0.2 < float(hidden.float().mean()) < 0.8
    assert torch.equal(shown[0][~hidden], words[~hidden])


def test_images_without_reports_have_only_the_patch_loss() -> None:
    model = network()
    images, words = records(4)
    patches = float(model(images, generator(0)).detach())
    both = float(model(images, generator(0), torch.full_like(words, PAD)).detach())
    with_words = float(model(images, generator(0), words).detach())
    assert both == pytest.approx(patches)
    assert with_words > patches
