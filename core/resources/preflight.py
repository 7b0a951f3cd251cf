"""Checks of a run before it is created."""

from __future__ import annotations

from core.config.run import RunSpec
from core.data import subsets
from core.data.datasets.opened import open_cached
from core.errors import ConfigurationError, ModelError
from core.models.backbones.registry import backbone_card
from core.models.tuning.registry import tuning_method
from core.resources import memory


def check(spec: RunSpec) -> None:
    """Refuse a specification that cannot work, before a run is created from it.

    Raises:
        CoreError: A name is unknown, a folder or a file of weights is missing, the rank is larger
            than a layer, or the device has too little memory; ``field`` is the setting.
    """
    from core.models.backbones import locate_weights
    from core.models.tuning.apply import count_parameters

    if spec.adapter.combined is not None:
        raise ConfigurationError(
            "An ensemble or soup is made of finished runs and is not trained.",
            "Make it with python -m core ensemble RUN RUN, or soup RUN RUN.",
            field="adapter.combined",
        )
    if spec.adapter.imported is not None:
        raise ConfigurationError(
            "An imported adapter is evaluated, not trained.",
            "Import it with python -m core import-adapter DIR, or choose a method.",
            field="adapter.imported",
        )
    method = tuning_method(spec.adapter.method)  # names first: they are checked at once
    card = backbone_card(spec.model.backbone)
    dataset = open_cached(spec.data)
    count_parameters(card, spec.adapter, len(dataset.findings), spec.model.input_size)
    memory.check_memory(spec.resolved(), len(dataset.findings))
    if spec.data.split_file is not None:
        subsets.listed(dataset, spec.data.split_file)
    if method.network is not None:
        return  # it needs no weights of a backbone
    weights = spec.model.weights
    if weights is not None and not weights.expanduser().is_file():
        raise ModelError(
            f"There is no file {weights}.", "Give the path of a checkpoint.", field="model.weights"
        )
    if spec.model.pretrained and card.source in ("file", "embedded"):
        locate_weights.locate(card, weights)
