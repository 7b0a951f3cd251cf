"""A stored speed of the machine, so that tests need not measure it."""

import json
from pathlib import Path


def note_speed(cache: Path, cpu: float = 1e10, gpu: float = 1e13) -> None:
    """Write the speed to a cache, in operations per second, equal for all precisions."""
    speeds = {
        f"{device} {precision}": speed
        for device, speed in (("cpu", cpu), ("gpu", gpu))
        for precision in ("fp32", "bf16", "fp16")
    }
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "speed.json").write_text(json.dumps(speeds))
