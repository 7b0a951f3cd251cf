"""Draws the phantoms of the default run for ``core.data.phantoms.prerendered``.

``python -m core.build_assets.phantoms`` writes them; this has to be done again when a phantom's
pixels change, of which ``Phantom.reader_version`` tells.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

from PIL import Image

from core.config.run import RunSpec
from core.data import subsets
from core.data.cache.image_cache import cache_side
from core.data.images import grey
from core.data.phantoms import prerendered
from core.data.phantoms.dataset import Phantom
from core.models.backbones.registry import backbone_card


def wanted() -> Iterator[tuple[Phantom, str, int]]:
    """The pictures to draw beforehand: data set, study and shorter side."""
    spec = RunSpec()
    dataset = Phantom(spec.data.name)
    side = cache_side(backbone_card(spec.model.backbone).input_size)
    labelled = subsets.labelled(dataset, spec.data)
    for study in labelled + dataset.ids("val") + dataset.ids("test"):
        yield dataset, study, side


def write() -> None:
    """Draw them all into ``core.data.phantoms.prerendered.FILE``."""
    with zipfile.ZipFile(prerendered.FILE, "w") as file:
        for dataset, study, side in wanted():
            image = grey.resize(dataset.render(study).image, side)
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG", optimize=True)
            # A time of its own would make another file of the same pictures.
            info = zipfile.ZipInfo(dataset.prerendered_name(study, side))
            file.writestr(info, content.getvalue())


if __name__ == "__main__":
    write()
