"""Attentive head: one learnt query per finding pools the tokens of the backbone by cross-attention.

Linear probing on the mean of the tokens understates masked-image models, whose information on a
small finding lies in few tokens (Psomas et al. 2025, arXiv 2506.10178). As in that paper, queries
attend to the tokens directly, without a projection of the keys.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigurationError, ModelError
from core.models.backbones.build import HEAD_STD
from core.models.backbones.model_map import ModelMap


class AttentiveHead(nn.Module):
    """Cross-attention pooling with one query per finding, and one linear output on each pool.

    The queries start at zero, that is with the mean of the tokens. The logit of finding f is
    w_f · Σ_i a_fi x_i + b_f with a_f = softmax_i(q_f · x_i / √D) and x the normalised tokens.

    Args:
        width: Channels D of a token.
        findings: Number of outputs.
    """

    def __init__(self, width: int, findings: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.zeros(findings, width))
        self.weight = nn.Parameter(torch.empty(findings, width))
        self.bias = nn.Parameter(torch.zeros(findings))
        nn.init.trunc_normal_(self.weight, std=HEAD_STD)

    def attention(self, tokens: Tensor) -> Tensor:
        """Weights of shape (studies, findings, tokens), 0 to 1; those of a finding sum to 1.

        Args:
            tokens: Shape (studies, tokens, D).
        """
        weights: Tensor = self._weights(self.norm(tokens))
        return weights

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of shape (studies, findings) of tokens of shape (studies, tokens, D)."""
        normal = self.norm(tokens)
        # The output of each token is weighted, not the tokens: the same sum with less memory.
        outputs = normal @ self.weight.T
        logits: Tensor = (self._weights(normal) * outputs.transpose(1, 2)).sum(-1) + self.bias
        return logits

    def _weights(self, normal: Tensor) -> Tensor:
        scores: Tensor = self.queries @ normal.transpose(1, 2) / normal.shape[-1] ** 0.5
        return scores.softmax(-1)


def install(parts: ModelMap) -> None:
    """Replace a model's pooling, ``fc_norm`` and linear classifier by an attentive head, in place.

    The head keeps the weights of the linear classifier where their shape is that of its own.

    Args:
        parts: Map of a timm classifier.

    Raises:
        ConfigurationError: The network has neither tokens nor a feature map.
    """
    model: Any = parts.model
    width = getattr(model, "num_features", None)
    name, former = next(reversed(parts.classifier.items()))
    if not isinstance(width, int) or not hasattr(model, "forward_features"):
        raise ConfigurationError(
            f"{type(model).__name__} has neither tokens nor a feature map for an attentive head.",
            "Choose the method linear or logistic, or another backbone.",
            field="adapter.method",
        )
    assert isinstance(former, nn.Linear)
    head = AttentiveHead(width, former.out_features)
    if former.weight.shape == head.weight.shape:
        head.load_state_dict(former.state_dict(), strict=False)  # its own norm and queries stay
    model.set_submodule(name, head.to(former.weight.device))
    if hasattr(model, "fc_norm"):
        model.fc_norm = None  # the head has a norm of its own
    model.forward_head = types.MethodType(_forward_head, model)


def attentive_head(model: nn.Module) -> AttentiveHead | None:
    """The attentive head of a model, wrapped or not; None if it has another head."""
    return next((module for module in model.modules() if isinstance(module, AttentiveHead)), None)


def _forward_head(model: Any, features: Tensor, pre_logits: bool = False) -> Tensor:
    tokens = _patch_tokens(model, features)
    logits: Tensor = model.get_classifier()(tokens)
    return tokens.mean(1) if pre_logits else logits


def _patch_tokens(model: Any, features: Tensor) -> Tensor:
    """Tokens of shape (studies, tokens, D) of patch tokens or of the positions of a feature map."""
    if features.ndim == 3:
        return features[:, int(getattr(model, "num_prefix_tokens", 0)) :]
    if features.ndim == 4 and getattr(model, "output_fmt", "NCHW") == "NHWC":
        return features.flatten(1, 2)
    if features.ndim == 4:
        return features.flatten(2).transpose(1, 2)
    raise ModelError(
        f"{type(model).__name__} has neither tokens nor a feature map for an attentive head.",
        "Choose the method linear or logistic, or another backbone.",
    )
