"""Masked records on pictures and words with a relation that can be learnt."""

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
    """Bright or dark pictures; every word of a report says which."""
    bright = torch.rand(count, generator=generator(seed)) < 0.5
    noise = 0.1 * torch.randn(count, 1, 64, 64, generator=generator(seed + 1))
    pictures = noise + torch.where(bright, 1.0, -1.0)[:, None, None, None]
    words = torch.where(bright, 5, 7)[:, None].repeat(1, 6)
    return pictures, words


def test_it_draws_patches_at_twice_the_resolution() -> None:
    model = network()
    pictures, _ = records(3)
    seen: list[torch.Size] = []
    drawn: list[torch.Size] = []
    model.encoder.blocks[0].register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    model.predict.register_forward_hook(lambda _, __, given: drawn.append(given.shape))
    model(pictures, generator(0))
    assert seen == [torch.Size([3, 1 + 2, model.encoder.embed_dim])]
    assert drawn == [torch.Size([3, 2, 32 * 32])]


def test_words_are_guessed_with_what_is_seen() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.words_masked = 1.0  # the picture alone can tell
    for step in range(60):
        pictures, words = records(32, step)
        _, encoded = model.draw(pictures, generator(step))
        loss = model.read(encoded, words, generator(step))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    pictures, words = records(64, 99)
    with torch.no_grad():
        _, encoded = model.draw(pictures, generator(1))
        told = float(model.read(encoded, words, generator(2)))
        _, other = model.draw(-pictures, generator(1))
        misled = float(model.read(other, words, generator(2)))
    assert told < 0.35  # a coin would give 0.69
    assert misled > 1


def test_what_is_padding_is_neither_asked_nor_heeded() -> None:
    model = network().eval()
    pictures, words = records(4)
    short = words.clone()
    short[:, 4:] = PAD
    with torch.no_grad():
        _, encoded = model.draw(pictures, generator(0))
        whole = model.read(encoded, short, generator(1))
        noisy = model.read(encoded[:2], short[:2], generator(1))
        none = model.read(encoded, torch.full_like(words, PAD), generator(1))
    assert torch.isfinite(whole)
    assert torch.isfinite(noisy)
    assert float(none) == 0


def test_masked_words_cannot_be_seen() -> None:
    model = network().eval()
    pictures, words = records(4)
    shown: list[Tensor] = []
    model.word.register_forward_hook(lambda _, given, __: shown.append(given[0]))
    with torch.no_grad():
        _, encoded = model.draw(pictures, generator(0))
        model.read(encoded, words, generator(1))
    hidden = shown[0] == MASK
    assert 0.2 < float(hidden.float().mean()) < 0.8
    assert torch.equal(shown[0][~hidden], words[~hidden])


def test_pictures_without_reports_train_the_drawing_alone() -> None:
    model = network()
    pictures, words = records(4)
    drawing = float(model(pictures, generator(0)).detach())
    both = float(model(pictures, generator(0), torch.full_like(words, PAD)).detach())
    told = float(model(pictures, generator(0), words).detach())
    assert both == pytest.approx(drawing)
    assert told > drawing
