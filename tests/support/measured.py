"""A workspace's note of how fast the machine is, so that a test need not measure it."""

import json
from pathlib import Path


def note_speed(cache: Path, cpu: float = 1e10, gpu: float = 1e13) -> None:
    """Write it into a cache, in operations a second, whatever the precision."""
    speeds = {
        f"{device} {precision}": speed
        for device, speed in (("cpu", cpu), ("gpu", gpu))
        for precision in ("fp32", "bf16", "fp16")
    }
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "speed.json").write_text(json.dumps(speeds))
