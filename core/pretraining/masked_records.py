"""Network of masked record modelling (Zhou et al. 2023, arXiv 2301.13155).

A record is a radiograph with its report. The encoder receives some patches of the image, at half
the resolution of the masked patches that the decoder predicts. Half the words of the report are
masked and predicted from the other words and the encoder's output.
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
"""Resolution of the predicted patches relative to the encoder's input, along each side."""


class MaskedRecord(MaskedAutoencoder):
    """A masked autoencoder that also predicts masked words of the report.

    Args:
        architecture: Name of a timm ViT with a class token and without registers.
        input_size: Side of the encoder's input in pixels; the images given are twice as large.
        vocabulary: Size of the vocabulary.
        longest: Number of words of the longest report.
        words_masked: Share of the words that are masked.
        decoder_width: Width of both decoders, a multiple of 32.
        decoder_depth: Number of blocks of each decoder.
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
        """Loss of the predicted patches plus loss of the predicted words.

        Args:
            images: Normalised grey images of shape [B, 1, 2S, 2S].
            generator: Selects the masked patches and words.
            words: Word numbers of shape [B, L]; only padding for an image without a report.
        """
        loss, encoded = self.reconstruct(images, generator)
        return loss if words is None else loss + self.word_loss(encoded, words, generator)

    def word_loss(self, encoded: Tensor, words: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the masked words; 0 if no word is masked.

        Args:
            encoded: The encoder's output for the visible patches, [B, 1 + V, D].
            words: Word numbers of shape [B, L].
            generator: Selects the masked words.
        """
        draws = torch.rand(words.shape, generator=generator).to(words.device)
        present = words != PAD
        hidden = present & (draws < self.words_masked)
        if not bool(hidden.any()):
            return encoded.new_zeros(())
        reported = present.any(1)
        words, present, hidden = words[reported], present[reported], hidden[reported]
        visible = words.masked_fill(hidden, MASK)
        image = self.seen(encoded[reported, 1:].mean(1))
        tokens = self.word(visible) + self.order[:, : words.shape[1]] + image[:, None]
        for block in self.reader:
            tokens = block(tokens, attn_mask=present[:, None, None, :])
        predicted = self.guess(self.reader_norm(tokens[hidden]))
        return functional.cross_entropy(predicted.float(), words[hidden])
