"""Train several runs jointly; each ends on its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.errors import Stopped
from core.runs.joint_worker import Member
from core.training import loop
from core.training.joint import compatibility
from core.training.joint.engine import End, Engine
from core.training.memory_errors import explain_out_of_memory
from core.training.session import Session
from core.training.setup import setup


def run_together(members: Sequence[Member], cache: Path) -> Iterator[tuple[int, End]]:
    """Train runs in the same forward passes.

    Each run is what it would be alone: it has its own optimizer, order of studies, random numbers,
    stop, checkpoints and files. Only rounding differs.

    Args:
        members: The runs, not started before.
        cache: Folder of decoded images.

    Yields:
        The number of a run that has ended, and a function that returns its result or raises its
        error.

    Raises:
        ConfigurationError: They cannot be trained jointly.
        CoreError: One of them cannot be set up.
    """
    compatibility.check_compatible([member.spec for member in members])
    sessions = dict(enumerate(_setup(member, cache) for member in members))
    for number in _decode(sessions):
        del sessions[number]
        yield number, _raising(Stopped())
    if not sessions:
        return
    numbers = list(sessions)
    engine = Engine(list(sessions.values()))
    for i, session in enumerate(sessions.values()):
        # Daemon threads: they wait for the engine, which may be gone when the process ends.
        threading.Thread(
            target=_train, args=(engine, i, session), name=f"member {i}", daemon=True
        ).start()
    for i, end in engine.serve():
        yield numbers[i], end


def _setup(member: Member, cache: Path) -> Session:
    spec = member.spec.resolved()
    with explain_out_of_memory(spec):
        return setup(spec, member.folder, cache, member.report)


def _decode(sessions: dict[int, Session]) -> Iterator[int]:
    """Decode the images of all members, once; yields the members that are stopped meanwhile."""
    left = dict(sessions)
    first = next(iter(left.values()))
    ids = [
        study
        for session in left.values()
        for split in ("train", "val")
        for study in session.ids[split]
    ]

    def progress(done: int, total: int) -> None:
        for session in left.values():
            session.report.progress(0.0, None, f"preparing images {done:,} of {total:,}")

    def stopped() -> list[int]:
        return [number for number, session in left.items() if session.report.stop_requested()]

    # Unreadable images are collected and ignored here: each member's own preparation decides
    # whether to skip them or to fail.
    while left and not first.cache.ensure(ids, progress, lambda: bool(stopped()), {}):
        for number in stopped():
            del left[number]
            yield number


def _train(engine: Engine, number: int, session: Session) -> None:
    """Train and evaluate a member; runs in a thread of its own."""
    try:
        with explain_out_of_memory(session.spec):
            result = loop.train(session)
        engine.finish(number, lambda: result)
    except BaseException as error:
        engine.finish(number, _raising(error))


def _raising(error: BaseException) -> Callable[[], dict[str, Any]]:
    def end() -> dict[str, Any]:
        raise error

    return end
