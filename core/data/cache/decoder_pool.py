"""Processes that decode images in parallel, for the image cache.

They are started as plain commands and communicate over pipes. ``ProcessPoolExecutor`` and joblib
were measured as replacements (400 PNG files, 2 processes): both take twice as long to the first and
to the last image, and both leave their workers running when the main process is killed, while these
end with their pipe. An image that crashes its process is found and reported; the others are decoded
again. ``multiprocessing`` would also import the user's main program in each worker, which fails for
a notebook, or a script without a guard. Workers load the data set and its modules, never torch.
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
from core.data.cache.shards import Location, Shards, ShardWriter
from core.errors import DataError

LARGEST_BATCH = 32
"""Images that a worker receives at once, which are decoded again if it is killed."""

SMALLEST_BATCH = 4
"""Images of the last batches, at least: each batch is flushed to the disk and answered."""

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from core.data.cache.decoder_pool import work; work()"
)

READY = b"ready\n"


class PoolStartError(Exception):
    """The data set cannot be sent to another process, for example a class of a notebook."""


@dataclass
class DecodedBatch:
    """The result of decoding some images.

    Attributes:
        locations: The images that were decoded; their pixels are on the disk.
        faults: Why the others could not be decoded, by study.
        fatal: Cause and remedy if no more images can be written, else None.
    """

    locations: list[Location] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    fatal: tuple[str, str] | None = None


@dataclass(frozen=True)
class DecodeTask:
    """What to decode and where to store it; sent to each worker.

    Attributes:
        dataset: The data set; it must be possible to pickle it.
        side: Shorter side of the copies, in pixels.
        folder: The folder of the copies.
    """

    dataset: ChestDataset
    side: int
    folder: Path

    def source(self, study_id: str) -> str:
        """Return what a copy depends on: the reader's version and the source.

        Raises:
            DataError: The file does not exist.
        """
        return f"{self.dataset.reader_version} {self.dataset.source_key(study_id)}"

    def decode(self, ids: Sequence[str], writer: ShardWriter, shards: Shards) -> DecodedBatch:
        """Make copies, except of images that another run has decoded in the meantime.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        batch = DecodedBatch()
        sources: dict[str, str] = {}
        for study in ids:
            try:
                # Before reading: if the file changes while it is read, the copy is outdated and
                # made again, not wrong.
                sources[study] = self.source(study)
            except DataError as error:
                batch.faults[study] = error.cause
        existing = shards.find(sources)
        for study, source in sources.items():
            if study in existing:
                batch.locations.append(existing[study])
                continue
            try:
                image = self.dataset.read(study, short_side=self.side)
            except DataError as error:
                batch.faults[study] = error.cause
                continue
            batch.locations.append(writer.append(study, source, image))
        writer.flush()
        return batch


def batches(ids: Sequence[str], workers: int) -> list[list[str]]:
    """Divide studies into batches that become smaller, so that all workers end at the same time.

    Args:
        ids: The studies, in their order.
        workers: Number of processes that take one batch after the other.
    """
    parts: list[list[str]] = []
    start = 0
    while start < len(ids):
        count = min(LARGEST_BATCH, max(SMALLEST_BATCH, (len(ids) - start) // (2 * workers)))
        parts.append(list(ids[start : start + count]))
        start += count
    return parts


class DecoderPool:
    """Worker processes that decode images.

    Raises:
        PoolStartError: The task cannot be pickled.
    """

    def __init__(self, task: DecodeTask, workers: int) -> None:
        try:
            self._task = pickle.dumps(task)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise PoolStartError(str(error)) from error
        self._workers = workers
        self._waiting: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[DecodedBatch | BaseException] = queue.SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stopping = threading.Event()

    def run(self, parts: Sequence[Sequence[str]]) -> Iterator[DecodedBatch | None]:
        """Decode batches of studies; yield each result, and None regularly while there is none.

        Closing the iterator ends the processes.

        Raises:
            PoolStartError: No process could be started; nothing was decoded.
            DataError: The processes cannot write.
        """
        for part in parts:
            self._waiting.put(list(part))
        threads = [
            threading.Thread(target=self._drive, name=f"decoder-{i}", daemon=True)
            for i in range(self._workers)
        ]
        left = sum(len(part) for part in parts)
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
                left -= len(result.locations) + len(result.faults)
                yield result
        finally:
            self._stopping.set()
            for process in self._processes:
                process.kill()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _drive(self) -> None:
        """Send batches to one process, and start another one if it dies; runs in a thread."""
        process: subprocess.Popen[bytes] | None = None
        try:
            while not self._stopping.is_set():
                try:
                    ids = self._waiting.get_nowait()
                except queue.Empty:
                    break
                process = process or self._start()
                batch = _request(process, ids)
                if batch is not None:
                    self._done.put(batch)
                    continue
                code, process = _end(process), None
                if len(ids) > 1:  # one by one, to find the image that crashes the process
                    for study in ids:
                        self._waiting.put([study])
                else:
                    reason = f"decoding it crashed the process (code {code})"
                    self._done.put(DecodedBatch(faults={ids[0]: reason}))
        except BaseException as error:
            self._done.put(error)
        finally:
            if process is not None:
                _end(process)

    def _start(self) -> subprocess.Popen[bytes]:
        # There are as many processes as cores: one thread each.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent only; workers end with their pipe
        )
        self._processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(self._task)
            process.stdin.flush()
        if process.stdout.readline() != READY:
            raise PoolStartError(f"exit code {_end(process)}")
        return process


def _request(process: subprocess.Popen[bytes], ids: list[str]) -> DecodedBatch | None:
    """Let a process decode some images; None if it died."""
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
    locations = [Location(*values) for values in answer["locations"]]
    return DecodedBatch(locations, answer["faults"], fatal)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Close the pipes of a process, wait for its end, and return its exit code."""
    with contextlib.suppress(BrokenPipeError):
        process.communicate()
    return process.returncode


def work() -> None:
    """Run a worker process: read the task, then answer each line of ids with a line."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # decoders may print; their output must not get between the answers
    source = sys.stdin.buffer
    task: DecodeTask = pickle.load(source)  # noqa: S301 - from our own parent, over a pipe
    try:
        answers.write(READY)
        answers.flush()
        shards = Shards(task.folder)
        with ShardWriter(task.folder) as writer:
            for line in source:
                _answer(answers, task.decode(json.loads(line), writer, shards))
    except DataError as error:
        _answer(answers, DecodedBatch(fatal=(error.cause, error.remedy)))
    except BrokenPipeError:
        pass  # the parent process has ended


def _answer(answers: IO[bytes], batch: DecodedBatch) -> None:
    message = {"locations": batch.locations, "faults": batch.faults, "fatal": batch.fatal}
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()
