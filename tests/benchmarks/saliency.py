"""Maps per second of four saliency methods, on the embedded ViT-Tiny of 128 px, in batches.

Run with ``OMP_NUM_THREADS=2 python -m tests.benchmarks.saliency``. The aim is 40 studies per second
on two cores, from the cached image to a scored map in the coordinates of the original. Wall-clock
and processor time are both reported, since other programs may share the cores.
"""

import json
import os
import time

import numpy as np
import torch

from core.classifier.build import evaluation_transform
from core.classifier.trained import Trained
from core.config.run import RunSpec
from core.data.cache.image_cache import cache_side
from core.data.phantoms.dataset import Phantom
from core.models.backbones.build import build_backbone
from core.models.backbones.registry import backbone_card
from core.saliency.explain import explain_images
from core.saliency.scores import localisation

STUDIES, BATCH, ORIGINAL = 256, 32, 256
METHODS = ("grad-cam", "hirescam", "attention-relevance", "integrated-gradients")


def main() -> None:
    """Print studies per second as JSON."""
    card = backbone_card("embedded-mae")
    findings = Phantom(train=1, val=1, test=1, size=64).findings
    model, _ = build_backbone(card, len(findings))
    side = cache_side(card.input_size)
    trained = Trained(
        model.eval(),
        card,
        RunSpec().resolved(),
        findings,
        evaluation_transform(card, card.input_size),
        side,
    )
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (side, side), np.uint8) for _ in range(STUDIES)]
    region = np.zeros((ORIGINAL, ORIGINAL), np.bool_)
    region[80:140, 60:120] = True
    results: dict[str, object] = {
        "cores": os.cpu_count(), "threads": torch.get_num_threads(), "studies": STUDIES
    }  # fmt: skip
    for method in METHODS:
        count = STUDIES if method != "integrated-gradients" else BATCH
        _explain(trained, images[:BATCH], method, region)
        clock, processor = time.perf_counter(), time.process_time()
        for start in range(0, count, BATCH):
            _explain(trained, images[start : start + BATCH], method, region)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        results[method] = {
            "studies per second": round(count / clock, 1),
            "studies per processor second": round(count / processor, 1),
        }
    print(json.dumps(results, indent=2))


def _explain(trained: Trained, images: list[np.ndarray], method: str, region: np.ndarray) -> None:
    sizes = [region.shape] * len(images)
    for explanation in explain_images(trained, images, "Mass", method, sizes=sizes):
        localisation.score(explanation.map, region)


if __name__ == "__main__":
    main()
