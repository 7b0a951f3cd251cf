"""Head of weighted k nearest neighbours on the features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from core.models.backbones.model_map import ModelMap

EPSILON = 1e-6
"""Smallest distance of a probability from 0 and 1, so that its logit is finite."""


class NearestNeighboursHead(nn.Module):
    """Votes of the k labelled training studies with the most similar features.

    Features are standardised and scaled to length 1; the vote of a neighbour has the weight
    exp(cosine similarity / temperature), as in Wu et al. 2018 (arXiv 1805.01978). A study votes
    only on findings whose label is known. All values are buffers: nothing trains.

    Args:
        width: Number of features.
        findings: Number of outputs.
    """

    saves_buffers = True

    def __init__(self, width: int, findings: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("bank", torch.zeros(0, width))
        self.register_buffer("labels", torch.zeros(0, findings))
        self.register_buffer("k", torch.tensor(1))
        self.register_buffer("temperature", torch.tensor(1.0))
        self._settings: tuple[int, bool] | None = None

    mean: Tensor
    std: Tensor
    bank: Tensor
    labels: Tensor
    k: Tensor
    temperature: Tensor

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Fill the bank.

        Args:
            features: Shape (studies, width).
            labels: Shape (studies, findings): 1, 0, or NaN where not known.
        """
        self.mean, self.std = features.mean(0), features.std(0).clamp_min(EPSILON)
        self.bank, self.labels, self._settings = self.normalised(features), labels, None

    def choose(self, k: int, temperature: float) -> None:
        """Set the number of neighbours and the temperature of their weights."""
        self.k, self.temperature = torch.tensor(k), torch.tensor(temperature)
        self._settings = None

    def normalised(self, features: Tensor) -> Tensor:
        """Standardised features of length 1."""
        return normalize((features.float() - self.mean) / self.std, dim=-1)

    def neighbours(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Similarities and labels of the k nearest studies whose label is known, by finding.

        Args:
            features: Shape (studies, width).
            k: Number of neighbours; fewer if fewer labels of a finding are known.

        Returns:
            Similarities, -1 to 1 and −∞ for missing neighbours, of shape (studies, findings, k) or,
            if all labels are known, (studies, 1, k); labels of shape (studies, findings, k).
        """
        similarity = self.normalised(features) @ self.bank.T
        k = min(k, len(self.bank))
        if self._read_settings()[1]:
            nearest = similarity.topk(k)
            return nearest.values[:, None], self.labels[nearest.indices].transpose(1, 2)
        values, votes = [], []
        for labels in self.labels.T:
            known = ~labels.isnan()
            nearest = similarity.masked_fill(~known, -torch.inf).topk(k)
            values.append(nearest.values)
            votes.append(labels.nan_to_num()[nearest.indices])
        return torch.stack(values, 1), torch.stack(votes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of shape (studies, findings) of features of shape (studies, width)."""
        if not len(self.bank):
            return features.new_zeros(len(features), self.labels.shape[1])
        with torch.autocast(features.device.type, enabled=False):
            similarity, votes = self.neighbours(features, self._read_settings()[0])
            return vote_logits(similarity, votes, self.temperature)

    def adopt_shapes(self, state: Mapping[str, Tensor]) -> None:
        """Make the buffers as large as saved ones; the size of the bank depends on the run."""
        for name in ("bank", "labels"):
            if name in state:
                buffer = getattr(self, name)
                setattr(self, name, buffer.new_zeros(state[name].shape))
        self._settings = None

    def _read_settings(self) -> tuple[int, bool]:
        """k, and whether all labels are known; read once, since an ONNX graph holds them fixed."""
        if self._settings is None:
            self._settings = int(self.k), not bool(self.labels.isnan().any())
        return self._settings


def vote_logits(similarity: Tensor, votes: Tensor, temperature: Tensor | float) -> Tensor:
    """Logits of the weighted share of positive neighbours.

    Args:
        similarity: Shape (studies, findings or 1, k); −∞ where there is no neighbour.
        votes: Labels 0 or 1 of shape (studies, findings, k).
        temperature: Divides the similarities before the softmax.

    Returns:
        Shape (studies, findings).
    """
    empty = similarity.isneginf().all(-1, keepdim=True)  # no label of the finding is known
    shares = (similarity.masked_fill(empty, 0.0) / temperature).softmax(-1)
    probability = (shares * votes.masked_fill(empty, 0.5)).sum(-1)
    return probability.clamp(EPSILON, 1 - EPSILON).logit()


def install(parts: ModelMap) -> None:
    """Replace the linear classifier of a model by a head of nearest neighbours, in place."""
    name, former = next(reversed(parts.classifier.items()))
    assert isinstance(former, nn.Linear)
    head = NearestNeighboursHead(former.in_features, former.out_features)
    parts.model.set_submodule(name, head.to(former.weight.device))
