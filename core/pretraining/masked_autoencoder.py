"""Network of a masked autoencoder (He et al. 2022, arXiv 2111.06377) for grey radiographs."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from core.pretraining.dense_targets import CELLS


class MaskedAutoencoder(nn.Module):
    """A timm ViT as encoder of the visible patches, and a small decoder that predicts masked ones.

    Args:
        architecture: Name of a timm ViT with a class token and without registers.
        input_size: Side of the encoder's input in pixels, a multiple of the patch size.
        masked: Share of the patches that are masked for the encoder.
        predicted: Share of all patches that the decoder predicts, a part of the masked patches.
        decoder_width: Width of the decoder, a multiple of 32.
        decoder_depth: Number of blocks of the decoder.
        variance_floor: Added to the variance of a target patch before dividing by its square root.
        scale: Side of the images given, and of the predicted patches, relative to the encoder's
            input.
        targets: Number of dense targets that each token predicts, see ``dense_targets``.
        cells: Parts of a patch, per side, for which each target is predicted.
    """

    def __init__(
        self,
        architecture: str,
        input_size: int,
        *,
        masked: float,
        predicted: float,
        decoder_width: int,
        decoder_depth: int,
        variance_floor: float,
        scale: int = 1,
        targets: int = 0,
        cells: int = CELLS,
    ) -> None:
        super().__init__()
        self.variance_floor, self.scale, self.cells = variance_floor, scale, cells
        self.encoder: Any = timm.create_model(
            architecture,
            pretrained=False,
            img_size=input_size,
            in_chans=1,
            num_classes=0,
            global_pool="token",
        )
        width, patch = self.encoder.embed_dim, self.encoder.patch_embed.patch_size[0]
        self.patch, self.side = patch, input_size // patch
        patches = self.side**2
        self.visible = max(1, round(patches * (1 - masked)))
        self.predicted = max(1, round(patches * predicted))
        narrow = decoder_width
        self.embed = nn.Linear(width, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder = nn.Sequential(
            *(Block(narrow, narrow // 32, qkv_bias=True) for _ in range(decoder_depth))
        )
        self.decoder_norm = nn.LayerNorm(narrow)
        self.predict = nn.Linear(narrow, (scale * patch) ** 2)
        if targets:
            self.dense_norm = nn.LayerNorm(width)
            self.dense = nn.Linear(width, targets * cells**2)
        self.decoder_pos: Tensor
        self.register_buffer("decoder_pos", sine_positions(narrow, self.side))
        self._initialise(sine_positions(width, self.side))

    def _initialise(self, positions: Tensor) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.encoder.patch_embed.proj.weight.view(positions.shape[-1], -1))
        nn.init.normal_(self.encoder.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        with torch.no_grad():
            self.encoder.pos_embed.copy_(positions)
        self.encoder.pos_embed.requires_grad_(False)

    def patches(self, images: Tensor) -> Tensor:
        """Divide images [B, 1, S, S] into the patches of the encoder's grid, row by row.

        Returns:
            Shape [B, P, p²], where P is the number of patches of the encoder's input.
        """
        side, p = self.side, images.shape[-1] // self.side
        cut = images.reshape(-1, side, p, side, p).transpose(2, 3)
        return cut.reshape(-1, side * side, p * p)

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the predicted patches, which are normalised one by one.

        Args:
            images: Normalised grey images of shape [B, 1, S, S], ``scale`` times the input size.
            generator: Selects which patches are visible and which are predicted.
        """
        return self.reconstruct(images, generator)[0]

    def reconstruct(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss of ``forward``, and the encoder's output for the visible patches [B, 1 + V, D].

        Args:
            images: As in ``forward``.
            generator: As in ``forward``.
        """
        patches = full_resolution = self.patches(images)
        if self.scale > 1:
            patches = self.patches(functional.avg_pool2d(images, self.scale))
        batch, count, _ = patches.shape
        order = torch.rand(batch, count, generator=generator).argsort(1).to(images.device)
        seen = order[:, : self.visible]
        hidden = order[:, self.visible : self.visible + self.predicted]
        encoded = self._encode(_take(patches, seen), seen)
        predicted = self._decode(encoded, seen, hidden)
        target = _take(full_resolution, hidden)
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        target = (target - mean) / (variance + self.variance_floor).sqrt()
        return functional.mse_loss(predicted, target), encoded

    def dense_logits(self, images: Tensor) -> Tensor:
        """Logits of the dense targets for the parts of each patch of whole images.

        Args:
            images: As in ``forward``.

        Returns:
            Shape [B, T, s, s], a grid over the image: s is the patches per side times ``cells``.
        """
        if self.scale > 1:
            images = functional.avg_pool2d(images, self.scale)
        logits: Tensor = self.dense(self.dense_norm(patch_tokens(self.encoder, images)))
        grid = logits.transpose(1, 2).reshape(len(logits), -1, self.side, self.side)
        return functional.pixel_shuffle(grid, self.cells)

    def _encode(self, patches: Tensor, positions: Tensor) -> Tensor:
        encoder = self.encoder
        projection = encoder.patch_embed.proj
        tokens = functional.linear(patches, projection.weight.flatten(1), projection.bias)
        tokens = tokens + encoder.pos_embed[0, 1:][positions]
        first = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        encoded: Tensor = encoder.norm(encoder.blocks(torch.cat([first, tokens], dim=1)))
        return encoded

    def _decode(self, encoded: Tensor, seen: Tensor, hidden: Tensor) -> Tensor:
        positions = self.decoder_pos[0]
        tokens = self.embed(encoded)
        first = tokens[:, :1] + positions[:1]
        known = tokens[:, 1:] + positions[1:][seen]
        unknown = self.mask_token + positions[1:][hidden]
        decoded = self.decoder(torch.cat([first, known, unknown], dim=1))[:, -hidden.shape[1] :]
        predicted: Tensor = self.predict(self.decoder_norm(decoded))
        return predicted


class Features(nn.Module):
    """Features for a classifier: the normalised mean of the patch tokens after the last block.

    Args:
        encoder: A timm ViT with one input channel, as in ``MaskedAutoencoder``.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, D] of normalised grey images [B, 1, S, S]."""
        tokens = patch_tokens(self.encoder, images)
        return functional.layer_norm(tokens.mean(1), tokens.shape[-1:])


def patch_tokens(encoder: Any, images: Tensor) -> Tensor:
    """Patch tokens [B, P, D] after the last block, for normalised images [B, 1, S, S]."""
    tokens: Tensor = encoder.blocks(encoder._pos_embed(encoder.patch_embed(images)))
    return tokens[:, 1:]


def sine_positions(width: int, side: int) -> Tensor:
    """Fixed sine and cosine position embedding of a square grid, zero for the class token.

    Args:
        width: Number of channels, a multiple of 4: half for each axis, split into sine and cosine.
        side: Number of patches per side.

    Returns:
        A tensor of shape [1, 1 + side², width].
    """
    rates = 10_000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns, rows = line.repeat(side, 1), line.repeat_interleave(side, 0)
    grid = torch.cat([columns, rows], dim=1).float()
    return torch.cat([torch.zeros(1, width), grid])[None]


def _take(patches: Tensor, indices: Tensor) -> Tensor:
    return patches.gather(1, indices[..., None].expand(-1, -1, patches.shape[-1]))
