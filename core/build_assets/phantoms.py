"""Writes ``assets/precomputed/phantoms.zip``, which ``core.data.phantoms.prerendered`` reads.

``python -m core.build_assets.phantoms`` draws the phantoms of the default run. Run it again when
the pixels of phantoms change, which ``Phantom.reader_version`` indicates.
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


def default_run() -> Iterator[tuple[Phantom, str, int]]:
    """The phantoms of the default run: data set, study and shorter side in pixels."""
    spec = RunSpec()
    dataset = Phantom(spec.data.name)
    side = cache_side(backbone_card(spec.model.backbone).input_size)
    labelled = subsets.labelled(dataset, spec.data)
    for study in labelled + dataset.ids("val") + dataset.ids("test"):
        yield dataset, study, side


def write() -> None:
    """Draw the phantoms into ``core.data.phantoms.prerendered.FILE``."""
    with zipfile.ZipFile(prerendered.FILE, "w") as file:
        for dataset, study, side in default_run():
            image = grey.resize(dataset.render(study).image, side)
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG", optimize=True)
            # ZipInfo has a fixed time, so that equal images give an equal file.
            info = zipfile.ZipInfo(dataset.prerendered_name(study, side))
            file.writestr(info, content.getvalue())


if __name__ == "__main__":
    write()
