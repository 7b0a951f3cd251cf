"""Ray executor: a scheduler that starts queued runs on the nodes of a Ray cluster.

Each run is an actor that continues when this process ends. It opens the same store and the same
workspace, which must have the same path on all nodes, and works like the process of a run. A run
whose node fails is queued again and continues from its last checkpoint on another node.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import ConfigurationError, CoreError, RunError
from core.runs import scheduler, worker
from core.runs.lost_runs import RESUME, record_end
from core.runs.run import ACTIVE, Run, RunState
from core.runs.slots import CPU
from core.runs.stop import KILL_AFTER
from core.runs.store import Store, open_store
from core.workspace import Workspace

NAMESPACE = "cxr-peft-explorer"
GPU = "gpu"
"""Slot of a run that uses a GPU."""
UNLIMITED = 1 << 20
"""Runs that a slot takes while the cluster has room for one more; Ray counts its resources."""


@dataclass
class Job:
    """A run on the cluster.

    Attributes:
        actor: The actor that executes it.
        done: Reference that Ray resolves when the actor has ended.
        stopping: Monotonic time of the stop request.
    """

    actor: Any
    done: Any
    stopping: float | None = None


class RunActor:
    """Actor that executes one run and ends with it."""

    def work(self, workspace: Workspace, run_id: str, execute: worker.Execute) -> None:
        """Execute the run until it ends, and record its end in the store."""
        import ray

        try:
            worker.work(open_store(workspace, create=False), workspace, run_id, execute)
        finally:
            ray.actor.exit_actor()


class ClusterSlots:
    """Slots of the cluster: one more run, unless a claimed run still waits for a node.

    Args:
        cpus: Cores of each run.
        placing: Returns whether a run still waits for a node.
    """

    def __init__(self, cpus: int, placing: Callable[[], bool]) -> None:
        self._cpus = cpus
        self._placing = placing

    def slots(self) -> dict[str, int]:
        """Number of runs that each kind of slot takes; GPUs only if the cluster has some."""
        import ray

        if self._placing():
            return {CPU: 0}
        free = ray.available_resources()
        room = UNLIMITED * (free.get("CPU", 0.0) >= self._cpus)
        if not ray.cluster_resources().get("GPU"):
            return {CPU: room}
        return {GPU: room * (free.get("GPU", 0.0) >= 1), CPU: room}

    def environment(self, device: str, slot: str | None) -> dict[str, str]:
        """No variables: Ray itself makes only the assigned GPU visible to a run."""
        return {}


class RayScheduler(scheduler.Scheduler):
    """Starts queued runs on a Ray cluster, each on a node with free resources.

    Args:
        store: The store, which the nodes must be able to open.
        workspace: The workspace, with the same path on each node.
        execute: Function that trains a run; the nodes import it by its name.
        address: Address of the cluster; ``auto`` for the cluster of this machine.
        cpus: Cores of each run.

    Raises:
        ConfigurationError: Ray is not installed, or there is no cluster at this address.
    """

    def __init__(
        self,
        store: Store,
        workspace: Workspace,
        *,
        execute: worker.Execute,
        address: str = "auto",
        cpus: int = 1,
    ) -> None:
        self._ray = _connect(address)
        self._execute = execute
        self._cpus = cpus
        self._jobs: dict[str, Job] = {}
        self._failed_starts: dict[str, int] = {}
        super().__init__(
            store, workspace, devices=ClusterSlots(cpus, self._placing), resume_lost=True
        )

    def step(self) -> None:
        """Run one pass: check the runs on the cluster, and start queued runs.

        Raises:
            RunError: The cluster does not respond.
        """
        try:
            for run_id, job in list(self._jobs.items()):
                self._check(run_id, job)
            super().step()
        except CoreError:
            raise
        except Exception as error:
            message = (str(error).strip().splitlines() or [""])[0]
            kind = type(error).__name__
            raise RunError(
                f"The Ray cluster does not respond ({kind}: {message}).",
                "Check that the cluster is running.",
            ) from error

    def stop(self) -> None:
        """Stop starting runs and disconnect from the cluster; runs that have started continue."""
        super().stop()
        self._ray.shutdown()

    def _begin(self, run: Run) -> None:
        options = {
            "num_cpus": self._cpus,
            "num_gpus": int(run.slot == GPU),
            "lifetime": "detached",
            "name": f"{run.id}-{secrets.token_hex(4)}",
            "max_restarts": 0,
        }
        actor = self._ray.remote(RunActor).options(**options).remote()
        done = actor.work.remote(self._workspace, run.id, self._execute)
        self._jobs[run.id] = Job(actor, done)

    def _placing(self) -> bool:
        with contextlib.suppress(RunError):  # a run was deleted
            return any(self._store.get(run_id).state is RunState.STARTING for run_id in self._jobs)
        return False

    def _check(self, run_id: str, job: Job) -> None:
        ended, _ = self._ray.wait([job.done], timeout=0)
        try:
            run = self._store.get(run_id)
        except RunError:  # it was deleted
            self._jobs.pop(run_id)
            return
        if ended:
            self._jobs.pop(run_id)
            self._record(run, self._error_of(job))
        elif run.state is RunState.STOPPING:
            job.stopping = job.stopping or time.monotonic()
            if time.monotonic() - job.stopping > KILL_AFTER:
                self._ray.kill(job.actor)

    def _error_of(self, job: Job) -> str:
        try:
            self._ray.get(job.done)
        except Exception as error:  # also raised by an actor that exits itself
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
        return ""

    def _record(self, run: Run, message: str) -> None:
        """Record that the actor of a run has ended, and queue a lost run again."""
        if run.state is RunState.STARTING:
            failed = self._failed_starts[run.id] = self._failed_starts.get(run.id, 0) + 1
            if failed < scheduler.MAX_ATTEMPTS:
                self._store.transition(run.id, RunState.QUEUED, seen=run)
                return
            reason = f"The run could not be started on the Ray cluster: {message}"
            record_end(self._store, run, RunState.FAILED, reason, "Fix the cause and resume it.")
            return
        if run.state in ACTIVE:
            if run.stop_requested:
                record_end(self._store, run, RunState.STOPPED, None, None)
            else:
                reason = f"The Ray node of the run has failed: {message}"
                record_end(self._store, run, RunState.LOST, reason, RESUME)
        self._resume([self._store.get(run.id)])


def _connect(address: str) -> Any:
    """Connect to a cluster and return the module ``ray``."""
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError(
            f"Ray is not installed ({error}).", "Install it with pip install -e '.[ray]'."
        ) from error
    try:
        if not ray.is_initialized():
            ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError) as error:
        message = (str(error).strip().splitlines() or [""])[0]
        raise ConfigurationError(
            f"There is no Ray cluster at {address} ({message}).",
            "Start one with ray start --head, or give another address with --address HOST:PORT.",
        ) from error
    return ray
