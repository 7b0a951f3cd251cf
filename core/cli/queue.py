"""Verbs on the queue: what waits, in which order, and the scheduler without a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.output import AsJson, Folder, RunName, answer, opened, summary, table

if TYPE_CHECKING:
    from core.runs.store import Store


EXECUTORS = ("processes", "ray")


def queue(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the runs that wait, in the order in which they start, and what each waits for."""
    _, store = opened(folder)
    waiting = _waiting(store)
    answer(waiting, as_json, lambda: table(
        ("id", "priority", "name", "waits for"),
        [
            (one["id"], str(one["priority"]), one["name"], one["waits"] or "a free slot")
            for one in waiting
        ],
    ))  # fmt: skip


def _waiting(store: Store) -> list[dict[str, Any]]:
    from core.runs import queue
    from core.runs.store import RunState

    runs = sorted(store.list(states=[RunState.QUEUED]), key=lambda run: run.turn)
    return [
        summary(run)
        | {"priority": run.priority, "after": run.after, "waits": queue.waits(store, run)}
        for run in runs
    ]


def move(
    run: RunName,
    where: Annotated[str, typer.Argument(help="first, up, down or last.")],
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Change a queued run's place in the queue."""
    _, store = opened(folder)
    store.move(store.get(run).id, where)
    waiting = _waiting(store)
    answer(waiting, as_json, lambda: typer.echo(
        "\n".join(f"{i}  {one['id']}  {one['name']}" for i, one in enumerate(waiting, 1))
    ))  # fmt: skip


def after(
    run: RunName,
    other: Annotated[
        str | None, typer.Argument(help="The run to wait for; left out, it waits for none.")
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Let a queued run start only when another is completed."""
    from core.runs import queue

    _, store = opened(folder)
    found = store.get(run)
    store.wait_for(found.id, store.get(other).id if other else None)
    found = store.get(found.id)
    waits = queue.waits(store, found) or "It waits for a free slot."
    value = summary(found) | {"after": found.after, "waits": waits}
    answer(value, as_json, lambda: typer.echo(f"{found.id} is {found.state}. {waits}"))


def stop(run: RunName, folder: Folder = None, as_json: AsJson = False) -> None:
    """Stop a run, within five seconds; it keeps a checkpoint and can be resumed."""
    from core.runs import queue

    _, store = opened(folder)
    found = queue.stop_now(store, store.get(run).id)
    answer(summary(found), as_json, lambda: typer.echo(f"{found.id} is {found.state}."))


def resume(run: RunName, folder: Folder = None, as_json: AsJson = False) -> None:
    """Queue a stopped, failed or lost run again; it goes on from its last checkpoint."""
    from core.runs import queue

    _, store = opened(folder)
    found = queue.resume(store, store.get(run).id)
    answer(summary(found), as_json, lambda: typer.echo(f"{found.id} is {found.state}."))


def serve(
    folder: Folder = None,
    slots: Annotated[
        int, typer.Option(min=1, help="Runs at the same time, on the processor and on each GPU.")
    ] = 1,
    until_idle: Annotated[bool, typer.Option(help="End when nothing more will start.")] = False,
    resume_lost: Annotated[
        bool, typer.Option("--resume-lost", help="Resume runs whose process is gone.")
    ] = False,
    executor: Annotated[
        str, typer.Option(help="Where runs are carried out: processes of this machine, or ray.")
    ] = "processes",
    address: Annotated[str, typer.Option(help="ray: the cluster's address.")] = "auto",
    cpus: Annotated[int, typer.Option(min=1, help="ray: cores that each run is given.")] = 1,
) -> None:
    """Start queued runs without a browser, until interrupted."""
    import time

    from core.errors import unknown_name
    from core.runs import queue
    from core.runs.scheduler import Scheduler

    if executor not in EXECUTORS:
        raise unknown_name("executor", executor, EXECUTORS)
    workspace, store = opened(folder)
    if executor == "ray":
        from core.runs.ray_executor import RayScheduler
        from core.training import trackers

        scheduler: Scheduler = RayScheduler(
            store, workspace, execute=trackers.run, address=address, cpus=cpus
        )
        where = f"on the Ray cluster, {cpus} core(s) a run"
    else:
        scheduler = Scheduler(store, workspace, slots=slots, resume_lost=resume_lost)
        where = f"with {slots} slot(s) a device"
    scheduler.start()
    typer.echo(f"Serving {workspace.root} {where}. Ctrl-C ends; runs go on.", err=True)
    try:
        while not (until_idle and queue.idle(store)):
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        scheduler.stop()
