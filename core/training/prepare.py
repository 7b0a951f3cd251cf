"""Decode images and compute cached features before training."""

from __future__ import annotations

from collections.abc import Callable

from core.errors import Stopped
from core.training.cached_features import CachedFeatures
from core.training.session import Session


def prepare(session: Session, *parts: str, at: float = 0.0) -> None:
    """Decode what is not in the cache, and compute what the feed needs only once.

    Args:
        session: The run; where it may, it goes on without pictures that cannot be read.
        *parts: The splits whose studies will be asked for.
        at: Progress of the run, 0 to 1.

    Raises:
        DataError: Pictures are missing or unreadable.
        Stopped: The user asked for it; what is done by then is kept.
    """
    report = session.report

    def telling(what: str) -> Callable[[int, int], None]:
        return lambda done, total: report.progress(at, None, f"{what} {done:,} of {total:,}")

    faults: dict[str, str] | None = {} if session.spec.data.skip_bad else None
    ids = [one for part in parts for one in session.ids[part]]

    def ensure() -> tuple[bool, dict[str, str] | None]:
        tell = telling("preparing images")
        return session.cache.ensure(ids, tell, report.stop_requested, faults), faults

    done, found = session.processes.in_turn(ensure)
    if not done:
        raise Stopped
    session.leave_out(found or {})
    if isinstance(session.inputs, CachedFeatures):
        session.parallel.eval()
        taught = session.ids["train"] if "train" in parts else []
        others = [one for part in parts if part != "train" for one in session.ids[part]]
        tell = telling("computing the frozen part")
        if not session.inputs.prepare(taught, others, tell, report.stop_requested, report.log):
            raise Stopped
