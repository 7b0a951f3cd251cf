"""Where the weights of a backbone are: shipped, a local file, the Hugging Face hub or its cache."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import ModelError
from core.models.backbones.card import BackboneCard
from core.workspace import BACKBONE_FILES

SECONDS = 4.0


def locate(card: BackboneCard, weights: Path | None) -> Path:
    """Find the file of a backbone's weights; what the hub has is downloaded once.

    Args:
        card: The backbone.
        weights: A local checkpoint that takes the place of the card's own.

    Raises:
        ModelError: The weights are not there and cannot be downloaded; where the authors put them
            is told.
    """
    if weights is not None:
        return weights.expanduser()
    if card.source == "embedded":
        path = BACKBONE_FILES / str(card.weights)
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
            f"Get them from {card.url}{'. ' + card.obtain if card.obtain else ','} "
            f"{'Then' if card.obtain else 'then'} give the file: --weights FILE or “Weights file”.",
            field="model.weights",
        )
    return _from_hub(card)


def _from_hub(card: BackboneCard) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if not card.hub:
        raise _unreachable(card, "they are not on the hub")
    for name in card.hub_files:
        cached = try_to_load_from_cache(card.hub, name)
        if isinstance(cached, str):
            return Path(cached)
    _require_network(card)
    reason = "the hub has none of its files"
    for name in card.hub_files:
        try:
            return Path(hf_hub_download(card.hub, name, etag_timeout=SECONDS))
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
        socket.create_connection((str(address.hostname), port), timeout=SECONDS).close()
    except OSError as error:
        raise _unreachable(card, f"{address.hostname} cannot be reached") from error


def _unreachable(card: BackboneCard, reason: str) -> ModelError:
    source = f"Get the file from {card.url} where there is a network and give it" if card.url else (
        "Give a local file"
    )  # fmt: skip
    return ModelError(
        f"The weights of {card.name} could not be downloaded: {reason}.",
        f"{source} (--weights FILE), choose an embedded backbone, or start from random weights "
        "(--no-pretrained).",
        field="model.backbone",
    )
