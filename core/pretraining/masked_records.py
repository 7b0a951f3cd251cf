"""The network of masked records (Zhou et al. 2023, arXiv 2301.13155) on radiographs and reports.

A record is a picture and its report. Of the picture the encoder sees some patches, at half the
resolution at which the masked ones are to be drawn; of the report half the words are masked, and
guessed from the others with what the encoder made of the picture.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from core.pretraining.masked_autoencoder import MaskedAutoencoder
from core.pretraining.vocabulary import MASK, PAD

SCALE = 2
"""Pixels of the target a pixel of the input, along each side."""


class MaskedRecord(MaskedAutoencoder):
    """A masked autoencoder that also guesses masked words of the report.

    Args:
        architecture: Name of a timm ViT with a class token and without registers.
        input_size: Side of what the encoder sees, in pixels; it is given pictures twice as large.
        vocabulary: Numbers that words can have.
        longest: Words of the longest report.
        words_masked: Share of the words that are masked.
        decoder_width: Width of both decoders, a multiple of 32.
        decoder_depth: Blocks of each of them.
        **autoencoder: Further arguments of ``MaskedAutoencoder``.
    """

    def __init__(
        self,
        architecture: str,
        input_size: int,
        *,
        vocabulary: int,
        longest: int,
        words_masked: float,
        decoder_width: int,
        decoder_depth: int,
        **autoencoder: Any,
    ) -> None:
        super().__init__(
            architecture,
            input_size,
            decoder_width=decoder_width,
            decoder_depth=decoder_depth,
            scale=SCALE,
            **autoencoder,
        )
        self.words_masked = words_masked
        self.word = nn.Embedding(vocabulary, decoder_width, padding_idx=PAD)
        self.order = nn.Parameter(torch.zeros(1, longest, decoder_width))
        self.seen = nn.Linear(self.encoder.embed_dim, decoder_width)
        self.reader = nn.ModuleList(
            Block(decoder_width, decoder_width // 32, qkv_bias=True) for _ in range(decoder_depth)
        )
        self.reader_norm = nn.LayerNorm(decoder_width)
        self.guess = nn.Linear(decoder_width, vocabulary)
        nn.init.normal_(self.word.weight, std=0.02)
        nn.init.normal_(self.order, std=0.02)
        for part in (self.seen, self.reader, self.guess):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)

    def forward(
        self, images: Tensor, generator: torch.Generator, words: Tensor | None = None
    ) -> Tensor:
        """The loss of the drawn patches plus that of the guessed words.

        Args:
            images: Normalised grey images of shape [B, 1, 2S, 2S].
            generator: Draws what is masked.
            words: Numbers of words of shape [B, L]; padding alone where there is no report.
        """
        drawing, encoded = self.draw(images, generator)
        return drawing if words is None else drawing + self.read(encoded, words, generator)

    def read(self, encoded: Tensor, words: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the masked words, 0 if there are none.

        Args:
            encoded: What the encoder made of the visible patches, [B, 1 + V, D].
            words: Numbers of words of shape [B, L].
            generator: Draws which words are masked.
        """
        drawn = torch.rand(words.shape, generator=generator).to(words.device)
        there = words != PAD
        hidden = there & (drawn < self.words_masked)
        if not bool(hidden.any()):
            return encoded.new_zeros(())
        reported = there.any(1)
        words, there, hidden = words[reported], there[reported], hidden[reported]
        shown = words.masked_fill(hidden, MASK)
        picture = self.seen(encoded[reported, 1:].mean(1))
        tokens = self.word(shown) + self.order[:, : words.shape[1]] + picture[:, None]
        heed = there[:, None, None, :]
        for block in self.reader:
            tokens = block(tokens, attn_mask=heed)
        guessed = self.guess(self.reader_norm(tokens[hidden]))
        return functional.cross_entropy(guessed.float(), words[hidden])
