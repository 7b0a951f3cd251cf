"""The queue's runs on a Ray cluster: the same jobs, claimed in the same order, on other machines.

Each run is an actor that outlives this process. It opens the same store and the same workspace,
which all nodes have to see under one path, and does what a run's own process does elsewhere. A run
whose node dies is queued again and goes on from its last checkpoint on another one.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import ConfigurationError, CoreError, RunError
from core.runs import queue, scheduler, worker
from core.runs.run import ACTIVE, Run, RunState
from core.runs.slots import CPU
from core.runs.stop import KILL_AFTER
from core.runs.store import Store, open_store
from core.workspace import Workspace

NAMESPACE = "cxr-peft-explorer"
GPU = "gpu"
"""The slot of a run that Ray gives a GPU."""
MANY = 1 << 20
"""Runs that a kind of slot takes while the cluster has room for one more; Ray does the counting."""


@dataclass
class Job:
    """A run on the cluster.

    Attributes:
        actor: What carries it out.
        done: What Ray answers when that has ended, one way or another.
        stopping: Since when it was asked to stop, on a clock that nobody sets.
    """

    actor: Any
    done: Any
    stopping: float | None = None


class Carrier:
    """The actor of one run, which ends with it."""

    def carry(self, workspace: Workspace, run_id: str, execute: worker.Execute) -> None:
        """Carry the run out, to whatever end; the store says to which."""
        import ray

        try:
            worker.work(open_store(workspace, create=False), workspace, run_id, execute)
        finally:
            ray.actor.exit_actor()


class ClusterSlots:
    """Room for one more run on the cluster, if nothing that was claimed still looks for its place.

    Args:
        cpus: Cores that each run is given.
        placing: Whether Ray has yet to find a node for a run.
    """

    def __init__(self, cpus: int, placing: Callable[[], bool]) -> None:
        self._cpus = cpus
        self._placing = placing

    def slots(self) -> dict[str, int]:
        """How many runs each kind of slot takes; there are GPUs where the cluster has some."""
        import ray

        if self._placing():
            return {CPU: 0}
        free = ray.available_resources()
        room = MANY * (free.get("CPU", 0.0) >= self._cpus)
        if not ray.cluster_resources().get("GPU"):
            return {CPU: room}
        return {GPU: room * (free.get("GPU", 0.0) >= 1), CPU: room}

    def environment(self, device: str, slot: str | None) -> dict[str, str]:
        """Nothing: Ray shows each run the GPU that it was given."""
        return {}


class RayScheduler(scheduler.Scheduler):
    """Starts queued runs on a Ray cluster, each on the node that has room for it.

    Args:
        store: The store, which the nodes reach as well.
        workspace: The workspace, under the same path on each node.
        execute: What carries a run out; the nodes import it by its name.
        address: Address of the cluster; ``auto`` for the one that this machine belongs to.
        cpus: Cores that each run is given.

    Raises:
        ConfigurationError: Ray is not installed, or there is no such cluster.
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
        self._ray = _joined(address)
        self._execute = execute
        self._cpus = cpus
        self._jobs: dict[str, Job] = {}
        self._in_vain: dict[str, int] = {}
        super().__init__(
            store,
            workspace,
            devices=ClusterSlots(cpus, self._placing),
            resume_lost=True,
        )

    def step(self) -> None:
        """Look once: what came of the runs on the cluster, and what can start there.

        Raises:
            RunError: The cluster does not answer.
        """
        try:
            for run_id, job in list(self._jobs.items()):
                self._look(run_id, job)
            super().step()
        except CoreError:
            raise
        except Exception as error:
            said = (str(error).strip().splitlines() or [""])[0]
            kind = type(error).__name__
            raise RunError(f"The Ray cluster does not answer ({kind}: {said}).") from error

    def stop(self) -> None:
        """Start no more runs and leave the cluster; those that have begun go on."""
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
        actor = self._ray.remote(Carrier).options(**options).remote()
        done = actor.carry.remote(self._workspace, run.id, self._execute)
        self._jobs[run.id] = Job(actor, done)

    def _placing(self) -> bool:
        with contextlib.suppress(RunError):  # it was deleted
            return any(self._store.get(one).state is RunState.STARTING for one in self._jobs)
        return False

    def _look(self, run_id: str, job: Job) -> None:
        ended, _ = self._ray.wait([job.done], timeout=0)
        try:
            run = self._store.get(run_id)
        except RunError:  # it was deleted
            self._jobs.pop(run_id)
            return
        if ended:
            self._jobs.pop(run_id)
            self._settle(run, self._said(job))
        elif run.state is RunState.STOPPING:
            job.stopping = job.stopping or time.monotonic()
            if time.monotonic() - job.stopping > KILL_AFTER:
                self._ray.kill(job.actor)

    def _said(self, job: Job) -> str:
        try:
            self._ray.get(job.done)
        except Exception as error:  # an actor that ends itself is one of them
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
        return ""

    def _settle(self, run: Run, said: str) -> None:
        """Queue a run again whose actor is gone before its end; the store knows of the others."""
        if run.state is RunState.STARTING:
            vain = self._in_vain[run.id] = self._in_vain.get(run.id, 0) + 1
            if vain < queue.MOST_ATTEMPTS:
                self._store.transition(run.id, RunState.QUEUED, seen=run)
                return
            reason = f"The run could not be started on the Ray cluster: {said}"
            queue.settle(self._store, run, RunState.FAILED, reason, "Mend the cause and resume it.")
            return
        if run.state in ACTIVE:
            if run.stop_requested:
                queue.settle(self._store, run, RunState.STOPPED, None, None)
            else:
                gone = f"The run's Ray node is gone: {said}"
                queue.settle(self._store, run, RunState.LOST, gone, queue.RESUME)
        self._resume([self._store.get(run.id)])


def _joined(address: str) -> Any:
    """Ray, joined to a cluster."""
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
        said = (str(error).strip().splitlines() or [""])[0]
        raise ConfigurationError(
            f"There is no Ray cluster at {address} ({said}).",
            "Start one with ray start --head, or name another with --address HOST:PORT.",
        ) from error
    return ray
