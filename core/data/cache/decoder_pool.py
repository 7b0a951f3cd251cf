"""Processes that decode pictures beside each other, for the cache.

They are started as plain commands and talk over pipes, since ``multiprocessing`` would import the
user's main program again: a notebook or a script without a guard would break. They load the data
set and what it needs, never torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from core.data.base import ChestDataset
from core.data.cache.shards import Place, Shards, ShardWriter
from core.errors import DataError

PART = 32
"""Pictures a worker is given at once: what is lost when it is killed."""

LEAST = 4
"""Pictures of a smaller part towards the end, at least: each is written and answered for itself."""

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from core.data.cache.decoder_pool import work; work()"
)


READY = b"ready\n"


class CannotStartError(Exception):
    """The data set cannot be sent to another process: its class is part of a notebook, say."""


@dataclass
class Part:
    """What became of some pictures.

    Attributes:
        places: Where the decoded ones are; their pixels are on the disk.
        faults: Why the others could not be decoded, by study.
        fatal: Why no further picture can be written; empty if all is well.
    """

    places: list[Place] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    fatal: tuple[str, str] | None = None


@dataclass(frozen=True)
class Task:
    """What is to be made of which pictures; sent to each worker.

    Attributes:
        dataset: Where the pictures come from; it must be possible to pickle it.
        side: Shorter side of the copies, in pixels.
        folder: Where the copies are kept.
    """

    dataset: ChestDataset
    side: int
    folder: Path

    def source(self, study_id: str) -> str:
        """What a copy depends on: the reader and the source.

        Raises:
            DataError: The picture is gone.
        """
        return f"{self.dataset.reader_version} {self.dataset.source_key(study_id)}"

    def decode(self, ids: Sequence[str], writer: ShardWriter, shards: Shards) -> Part:
        """Make copies, except of those that another run has made meanwhile.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        part = Part()
        sources: dict[str, str] = {}
        for one in ids:
            try:
                # Before reading: if the file changes meanwhile, the copy is stale, not wrong.
                sources[one] = self.source(one)
            except DataError as error:
                part.faults[one] = error.cause
        there = shards.find(sources)
        for one, source in sources.items():
            if one in there:
                part.places.append(there[one])
                continue
            try:
                picture = self.dataset.read(one, short_side=self.side)
            except DataError as error:
                part.faults[one] = error.cause
                continue
            part.places.append(writer.append(one, source, picture))
        writer.flush()
        return part


def shares(ids: Sequence[str], workers: int) -> list[list[str]]:
    """Cut a list into parts of at most ``PART``, smaller towards the end, so that all end together.

    Args:
        ids: The studies, in their order.
        workers: Processes that take one part after the other.
    """
    parts: list[list[str]] = []
    start = 0
    while start < len(ids):
        count = min(PART, max(LEAST, (len(ids) - start) // (2 * workers)))
        parts.append(list(ids[start : start + count]))
        start += count
    return parts


class Decoders:
    """Worker processes that decode a list of pictures.

    Args:
        task: What to make of them.
        workers: Number of processes.

    Raises:
        CannotStartError: The task cannot be pickled.
    """

    def __init__(self, task: Task, workers: int) -> None:
        try:
            self._task = pickle.dumps(task)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise CannotStartError(str(error)) from error
        self._workers = workers
        self._waiting: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Part | BaseException] = queue.SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stopping = threading.Event()

    def run(self, parts: Sequence[Sequence[str]]) -> Iterator[Part | None]:
        """Decode all parts; yields each result, and None now and then while there is none.

        Closing the iterator ends the processes.

        Raises:
            CannotStartError: No process could be started; nothing was decoded.
            DataError: The processes cannot write.
        """
        for one in parts:
            self._waiting.put(list(one))
        threads = [
            threading.Thread(target=self._drive, name=f"decoder-{i}", daemon=True)
            for i in range(self._workers)
        ]
        left = sum(len(one) for one in parts)
        try:
            for thread in threads:
                thread.start()
            while left > 0:
                try:
                    result = self._done.get(timeout=0.2)
                except queue.Empty:
                    yield None
                    continue
                if isinstance(result, BaseException):
                    raise result
                if result.fatal is not None:
                    raise DataError(*result.fatal)
                left -= len(result.places) + len(result.faults)
                yield result
        finally:
            self._stopping.set()
            for process in self._processes:
                process.kill()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _drive(self) -> None:
        """Feed one process after the other; run by a thread, which mostly waits."""
        process: subprocess.Popen[bytes] | None = None
        try:
            while not self._stopping.is_set():
                try:
                    ids = self._waiting.get_nowait()
                except queue.Empty:
                    break
                process = process or self._start()
                part = _ask(process, ids)
                if part is not None:
                    self._done.put(part)
                    continue
                code, process = _end(process), None
                if len(ids) > 1:  # find the one that is to blame
                    for one in ids:
                        self._waiting.put([one])
                else:
                    reason = f"decoding it ended the process (code {code})"
                    self._done.put(Part(faults={ids[0]: reason}))
        except BaseException as error:
            self._done.put(error)
        finally:
            if process is not None:
                _end(process)

    def _start(self) -> subprocess.Popen[bytes]:
        # One thread each: as many processes as cores would otherwise start as many threads each.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent; they end when their pipe does
        )
        self._processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(self._task)
            process.stdin.flush()
        if process.stdout.readline() != READY:
            raise CannotStartError(f"exit code {_end(process)}")
        return process


def _ask(process: subprocess.Popen[bytes], ids: list[str]) -> Part | None:
    """Have a process decode some pictures; None if it died."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(ids).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except (OSError, ValueError):
        return None
    if not line.endswith(b"\n"):
        return None
    answer = json.loads(line)
    fatal = tuple(answer["fatal"]) if answer["fatal"] else None
    return Part([Place(*one) for one in answer["places"]], answer["faults"], fatal)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Let a process come to its end; its exit code."""
    with contextlib.suppress(BrokenPipeError):
        process.communicate()
    return process.returncode


def work() -> None:
    """What a worker process runs: read the task, then answer each line of ids with a line."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not stand among the answers
    source = sys.stdin.buffer
    task: Task = pickle.load(source)  # noqa: S301 - from our own parent, over a pipe
    answers.write(READY)
    answers.flush()
    try:
        shards = Shards(task.folder)
        with ShardWriter(task.folder) as writer:
            for line in source:
                _answer(answers, task.decode(json.loads(line), writer, shards))
    except DataError as error:
        _answer(answers, Part(fatal=(error.cause, error.remedy)))
    except BrokenPipeError:
        pass  # the parent is gone: so is the reason to go on


def _answer(answers: IO[bytes], part: Part) -> None:
    message = {"places": part.places, "faults": part.faults, "fatal": part.fatal}
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()
