"""Preparation before training: decode images and compute cached features."""

from __future__ import annotations

from collections.abc import Callable

from core.errors import Stopped
from core.training.cached_features import CachedFeatures
from core.training.session import Session


def prepare(session: Session, *splits: str, at: float = 0.0) -> None:
    """Decode the images that are not in the cache, and compute features that are needed only once.

    Args:
        session: The run; unreadable images are skipped if its specification says so.
        *splits: Names of the splits that will be used.
        at: Progress of the run to report meanwhile, 0 to 1.

    Raises:
        DataError: Images are missing or unreadable.
        Stopped: The user asked for it; finished work is kept.
    """
    report = session.report

    def progress_of(activity: str) -> Callable[[int, int], None]:
        return lambda done, total: report.progress(at, None, f"{activity} {done:,} of {total:,}")

    faults: dict[str, str] | None = {} if session.spec.data.skip_bad else None
    ids = [study for split in splits for study in session.ids[split]]

    def decode() -> tuple[bool, dict[str, str] | None]:
        progress = progress_of("preparing images")
        return session.cache.ensure(ids, progress, report.stop_requested, faults), faults

    # The main process decodes; the others then find everything in the cache.
    done, unreadable = session.processes.main_first(decode)
    if not done:
        raise Stopped
    session.leave_out(unreadable or {})
    if isinstance(session.inputs, CachedFeatures):
        session.parallel.eval()
        training = session.ids["train"] if "train" in splits else []
        others = [study for split in splits if split != "train" for study in session.ids[split]]
        progress = progress_of("computing frozen features")
        if not session.inputs.prepare(
            training, others, progress, report.stop_requested, report.log
        ):
            raise Stopped
