"""Checkpoints: a resumed run continues exactly like an uninterrupted one.

The keys of the file are stable, so that checkpoints of earlier versions can be resumed.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from core.errors import DataError, ModelError, Stopped
from core.files import write_atomically
from core.models.tuning.apply import load_trainable_state, trainable_state
from core.training.session import Position, Session

CHECKPOINT = "checkpoint.pt"


def save(session: Session) -> None:
    """Write the run's position, its trainable weights and the state of its optimizer.

    Raises:
        DataError: The file cannot be written.
    """
    session.report.secure()
    if not session.processes.main:
        return
    scaler = session.accelerator.scaler
    payload = {
        "fingerprint": session.spec.fingerprint(),
        "position": asdict(session.position) | {"seconds": session.elapsed()},
        "trains": trainable_state(session.model),
        "optimizer": session.optimizer.state_dict(),
        "companion": session.hook.state() if session.hook is not None else None,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "skipped": session.skipped,
        "losses": torch.stack(session.losses).cpu() if session.losses else None,
    }
    write_atomically(session.folder / CHECKPOINT, lambda file: torch.save(payload, file))


def stopped(session: Session) -> Stopped:
    """Write a checkpoint because the user stopped the run; returns the exception to raise."""
    save(session)
    session.report.log(f"Stopped at step {session.position.step}; the run can be resumed.")
    return Stopped()


@contextlib.contextmanager
def saved_on_stop(session: Session) -> Iterator[None]:
    """Context in which a stop by the user writes a checkpoint before it ends the run."""
    try:
        yield
    except Stopped:
        raise stopped(session) from None


def load(session: Session) -> None:
    """Restore a session from its last checkpoint; without one the run starts from the beginning.

    Raises:
        DataError: The checkpoint is damaged or belongs to another specification.
    """
    path = session.folder / CHECKPOINT
    payload = session.processes.from_main(lambda: _read(path) if path.exists() else None)
    if payload is None:
        session.report.log("There is no checkpoint yet; the run starts from the beginning.")
        session.report.rewind(0)
        return
    if payload["fingerprint"] != session.spec.fingerprint():
        raise DataError(
            f"The checkpoint in {path.parent} belongs to another specification, or to an earlier "
            "edition of the phantoms.",
            "Start a new run instead of resuming this one.",
        )
    try:
        _restore(session, payload)
    except (KeyError, TypeError, ValueError, ModelError) as error:
        raise _damaged(path, error) from error
    session.report.rewind(session.position.metrics)
    session.report.log(
        f"Resumed after {session.position.epoch} epochs and {session.position.batch} batches."
    )


def _restore(session: Session, payload: dict[str, Any]) -> None:
    known = {field.name for field in fields(Position)}  # earlier versions stored other fields too
    values = {name: value for name, value in payload["position"].items() if name in known}
    session.position = Position(**values)
    session.started = time.monotonic()
    # Skip the same studies even if they are readable now: an epoch's batches must not change.
    session.leave_out(payload.get("skipped", {}))
    load_trainable_state(session.model, payload["trains"])
    session.optimizer.load_state_dict(payload["optimizer"])
    if session.hook is not None:
        session.hook.load(payload["companion"])
    if session.accelerator.scaler is not None and payload["scaler"]:
        session.accelerator.scaler.load_state_dict(payload["scaler"])
    if payload["losses"] is not None:
        session.losses = list(payload["losses"].to(session.accelerator.device))


def _read(path: Path) -> dict[str, Any]:
    try:
        payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        payload["fingerprint"]
    except (
        OSError,
        EOFError,
        RuntimeError,
        LookupError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        raise _damaged(path, error) from error
    return payload


def _damaged(path: Path, error: Exception) -> DataError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(
        f"The checkpoint {path} cannot be read ({why}).", "Delete the file and start the run again."
    )
