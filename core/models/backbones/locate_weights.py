"""Locating the weights of a backbone: in this package, a local file, or the Hugging Face Hub."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import ModelError
from core.models.backbones.card import BackboneCard
from core.workspace import BACKBONE_FILES

SECONDS = 4.0
"""Timeout of a connection to the Hugging Face Hub."""


def locate(card: BackboneCard, weights: Path | None) -> Path:
    """Path of a backbone's weights; weights on the Hugging Face Hub are downloaded once.

    Args:
        card: The backbone.
        weights: A local checkpoint that replaces the card's weights.

    Raises:
        ModelError: The weights are missing and cannot be downloaded. The message says where the
            authors publish them.
    """
    if weights is not None:
        return weights.expanduser()
    if card.source == "embedded":
        path = BACKBONE_FILES / str(card.weights)
        if not path.exists():
            raise ModelError(
                f"The embedded weights {path} are missing.",
                "Reinstall this software, or train them again: python -m core pretrain.",
                field="model.backbone",
            )
        return path
    if card.source == "file":
        raise ModelError(
            f"The weights of {card.title} are not included in this software.",
            f"Download them from {card.url}. {card.obtain + ' ' if card.obtain else ''}"
            "Then give the file: --weights FILE or “Weights file”.",
            field="model.weights",
        )
    return _from_hub(card)


def _from_hub(card: BackboneCard) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if not card.hub:
        raise _unavailable(card, "they are not on the Hugging Face Hub")
    for name in card.hub_files:
        cached = try_to_load_from_cache(card.hub, name)
        if isinstance(cached, str):
            return Path(cached)
    _require_network(card)
    reason = "the Hugging Face Hub has none of its files"
    for name in card.hub_files:
        try:
            return Path(hf_hub_download(card.hub, name, etag_timeout=SECONDS))
        except LocalEntryNotFoundError as error:
            raise _unavailable(card, "the connection failed") from error
        except EntryNotFoundError:
            continue
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
    raise _unavailable(card, reason)


def _require_network(card: BackboneCard) -> None:
    """Fail at once if the hub cannot be reached; its client would retry for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _unavailable(card, "HF_HUB_OFFLINE is set")
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((str(address.hostname), port), timeout=SECONDS).close()
    except OSError as error:
        raise _unavailable(card, f"{address.hostname} cannot be reached") from error


def _unavailable(card: BackboneCard, reason: str) -> ModelError:
    source = "Give a local file"
    if card.url:
        source = f"Download the file from {card.url} on a machine with a network and give it"
    return ModelError(
        f"The weights of {card.name} could not be downloaded: {reason}.",
        f"{source} (--weights FILE). Or choose an embedded backbone, or start from random weights "
        "(--no-pretrained).",
        field="model.backbone",
    )
