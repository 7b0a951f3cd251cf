"""Carries out several runs together, each to an end of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.errors import Stopped
from core.runs.joint_worker import Member
from core.training import loop, memory_errors
from core.training.joint import compatibility
from core.training.joint.engine import End, Engine
from core.training.session import Session
from core.training.setup import setup


def run(members: Sequence[Member], cache: Path) -> Iterator[tuple[int, End]]:
    """Train runs in the same forward passes.

    Each is what it would be alone: its own optimizer, order of the studies, random draws, stop,
    checkpoint and files, and only rounding tells the two apart.

    Args:
        members: The runs; new ones.
        cache: Folder of decoded images.

    Yields:
        The number of a run that has ended, and what gives its result or raises its error.

    Raises:
        ConfigurationError: They cannot be trained together.
        CoreError: What would stop one of them at its very beginning.
    """
    compatibility.check_compatible([member.spec for member in members])
    sessions = [_session(member, cache) for member in members]
    left = dict(enumerate(sessions))
    for number in _decode(left):
        del left[number]
        yield number, _stopped
    if not left:
        return
    numbers = list(left)
    engine = Engine(list(left.values()))
    for place, session in enumerate(left.values()):
        threading.Thread(
            target=_live, args=(engine, place, session), name=f"member {place}", daemon=True
        ).start()
    for place, end in engine.serve():
        yield numbers[place], end


def _session(member: Member, cache: Path) -> Session:
    spec = member.spec.resolved()
    with memory_errors.memory_explained(spec):
        return setup(spec, member.folder, cache, member.report)


def _decode(sessions: dict[int, Session]) -> Iterator[int]:
    """Make what is missing in the cache, once for all; yields the members that stopped in it."""
    left = dict(sessions)
    first = next(iter(left.values()))
    ids = [one for s in left.values() for part in ("train", "val") for one in s.ids[part]]

    def tell(done: int, total: int) -> None:
        for session in left.values():
            session.report.progress(0.0, None, f"preparing images {done:,} of {total:,}")

    def asked() -> list[int]:
        return [number for number, session in left.items() if session.report.stop_requested()]

    # What cannot be read is each member's own matter: it may go on without, or not.
    while left and not first.cache.ensure(ids, tell, lambda: bool(asked()), {}):
        for number in asked():
            del left[number]
            yield number


def _live(engine: Engine, place: int, session: Session) -> None:
    """A member's whole life after its setup, in its own thread."""
    try:
        with memory_errors.memory_explained(session.spec):
            result = loop.train(session)
        engine.leave(place, lambda: result)
    except BaseException as error:
        engine.leave(place, _raising(error))


def _raising(error: BaseException) -> Callable[[], dict[str, Any]]:
    def end() -> dict[str, Any]:
        raise error

    return end


def _stopped() -> dict[str, Any]:
    raise Stopped
