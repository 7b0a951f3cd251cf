"""Building a backbone from its card: the network, the study's classifier on it, the weights."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
from timm.models import model_entrypoint
from torch import Tensor, nn

from core.errors import ConfigurationError, ModelError
from core.models import checkpoints
from core.models.catalogue import BackboneCard
from core.models.checkpoints import LoadReport
from core.workspace import ASSETS

HEAD_STD = 2e-5
HUB_SECONDS = 4.0
HUB_FILES = ("model.safetensors", "pytorch_model.bin")

FAMILIES: dict[str, dict[str, Any]] = {
    "vision_transformer": {"global_pool": "avg", "fc_norm": True},
    "deit": {"global_pool": "avg", "fc_norm": True},
    "eva": {"global_pool": "avg", "use_fc_norm": True},
    "beit": {"global_pool": "avg"},
    "swin_transformer": {},
    "swin_transformer_v2": {},
}
"""timm modules whose models take ``img_size``, with the arguments that give the study's classifier:
the mean of the patch tokens, then ``fc_norm``, then the head. Other models keep their own pooling.
"""

NO_DROP_PATH = ("densenet", "vgg", "inception_v3", "test_densenet")
"""timm modules whose models have no stochastic depth."""


def build(
    card: BackboneCard,
    findings: int,
    *,
    pretrained: bool = True,
    weights: Path | None = None,
    input_size: int | None = None,
    drop_path: float = 0.0,
) -> tuple[nn.Module, LoadReport]:
    """Build a classifier of findings on a backbone.

    Where weights are random (all of them without ``pretrained``, the head always) they are drawn
    from torch's global generator.

    Args:
        card: The backbone.
        findings: Outputs of the classifier.
        pretrained: Load the backbone's weights; otherwise start from random ones.
        weights: A local checkpoint to load instead of the card's own.
        input_size: Side of the input in pixels; by default the card's.
        drop_path: Rate of stochastic depth in the last block, rising from 0 in the first.

    Returns:
        The model, float32, which turns [B, C, S, S] into logits [B, findings], and what was loaded.

    Raises:
        ConfigurationError: The input size does not suit the architecture.
        ModelError: The weights cannot be found, read or matched.
    """
    size = input_size or card.input_size
    path = _locate(card, weights) if pretrained else None
    model = network(card, findings, size, drop_path)
    if path is None:
        return model, LoadReport()
    state = _translated(card, model, checkpoints.read(path))
    return model, checkpoints.load(model, state, name=path.name, digest=checkpoints.sha256(path))


def network(card: BackboneCard, findings: int, size: int, drop_path: float = 0.0) -> nn.Module:
    """Build the network of a card with random weights and the study's head.

    Args:
        card: The backbone.
        findings: Outputs of the classifier.
        size: Side of the input in pixels.
        drop_path: Rate of stochastic depth.

    Raises:
        ConfigurationError: The input size does not suit the architecture.
    """
    family = _family(card)
    more = {"drop_path_rate": drop_path} if drop_path and family not in NO_DROP_PATH else {}
    try:
        model: Any = timm.create_model(
            card.architecture, pretrained=False, **arguments(card, findings, size), **more
        )
    except (AssertionError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"{card.title} cannot be built for {size} px ({str(error).splitlines()[0]}).",
            f"Leave the input size at {card.input_size}.",
            field="model.input_size",
        ) from error
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch is not None and family in FAMILIES and size % patch[0]:
        raise ConfigurationError(
            f"{card.title} cuts the input into patches of {patch[0]} px, which {size} px is no "
            "multiple of.",
            f"Choose {size // patch[0] * patch[0]} or {(size // patch[0] + 1) * patch[0]}.",
            field="model.input_size",
        )
    head = model.get_classifier()
    nn.init.trunc_normal_(head.weight, std=HEAD_STD)
    nn.init.zeros_(head.bias)
    built: nn.Module = model
    return built


def arguments(card: BackboneCard, findings: int, size: int) -> dict[str, Any]:
    """What ``timm.create_model`` is given for a card beside the architecture's name.

    Args:
        card: The backbone.
        findings: Outputs of the classifier.
        size: Side of the input in pixels.
    """
    family = _family(card)
    sized = {"img_size": size} if family in FAMILIES else {}
    given = {"num_classes": findings, "in_chans": card.channels}
    return {**given, **FAMILIES.get(family, {}), **sized, **card.arguments}


def _family(card: BackboneCard) -> str:
    module: str = model_entrypoint(card.architecture.split(".")[0]).__module__
    return module.rsplit(".", 1)[-1]


def _locate(card: BackboneCard, weights: Path | None) -> Path:
    if weights is not None:
        return weights.expanduser()
    if card.source == "embedded":
        path = ASSETS / str(card.weights)
        if not path.exists():
            raise ModelError(
                f"The embedded weights {path} are missing.",
                "Install this software anew, or make them: python -m core pretrain.",
                field="model.backbone",
            )
        return path
    if card.source == "file":
        raise ModelError(
            f"The weights of {card.title} are not shipped with this software.",
            f"Get them from {card.url}, then give the file: --weights FILE or “Weights file”.",
            field=checkpoints.FIELD,
        )
    return _from_hub(card)


def _from_hub(card: BackboneCard) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository = timm.get_pretrained_cfg(card.architecture).hf_hub_id
    if not repository:
        raise _unreachable(card, "it is not on the hub")
    for name in HUB_FILES:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    _require_network(card)
    reason = "it has no weights there"
    for name in HUB_FILES:
        try:
            return Path(hf_hub_download(repository, name, etag_timeout=HUB_SECONDS))
        except LocalEntryNotFoundError as error:
            raise _unreachable(card, "the connection failed") from error
        except EntryNotFoundError:
            continue
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
    raise _unreachable(card, reason)


def _require_network(card: BackboneCard) -> None:
    """Fail at once where there is no way to the hub: its client would retry for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _unreachable(card, "HF_HUB_OFFLINE is set")
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((str(address.hostname), port), timeout=HUB_SECONDS).close()
    except OSError as error:
        raise _unreachable(card, f"{address.hostname} cannot be reached") from error


def _unreachable(card: BackboneCard, reason: str) -> ModelError:
    return ModelError(
        f"The weights of {card.name} could not be downloaded: {reason}.",
        "Give a local file (--weights FILE), choose an embedded backbone, or start from random "
        "weights (--no-pretrained).",
        field="model.backbone",
    )


def _translated(
    card: BackboneCard, model: nn.Module, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Bring the keys of timm's own weights up to the present layout of their class."""
    if card.source != "timm":
        return state
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or not any(checkpoints.differences(model, state)):
        return state
    converted: dict[str, Tensor] = convert(dict(state), model)
    return converted
