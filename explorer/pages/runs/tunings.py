"""The tunings of the workspace on the Runs page: their progress, and the result of the chosen one.

Everything shown is read from the store; ``core.experiments.tune`` checks each action again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from markupsafe import Markup
from optuna.storages import RDBStorage

from core.errors import CoreError
from core.experiments.tune import background, result
from core.experiments.tune import study as studies
from core.experiments.tune.overview import Overview, Overviews, TuningState
from core.experiments.tune.result import Result
from core.experiments.tune.tune import Tuning
from core.runs.store import Store
from core.workspace import Workspace
from explorer.components.run_comparison import MOST
from explorer.figures.palette import state_dot
from explorer.templates import error_message, render

TEMPLATE = "pages/runs/tunings.html.j2"


class Tunings:
    """The tunings of a workspace.

    Args:
        store: The store.
        workspace: The workspace.
    """

    def __init__(self, store: Store, workspace: Workspace) -> None:
        self._store = store
        self._workspace = workspace
        self._storage: RDBStorage | None = None
        self._overviews: Overviews | None = None
        self._results: dict[str, tuple[object, Result]] = {}

    def panel(self, selected: str | None) -> Markup:
        """HTML of all tunings, the latest first, and the result of the selected one.

        Args:
            selected: Name of a tuning; None for none.
        """
        try:
            overviews = self._all()
            chosen = next((each for each in overviews if each.name == selected), None)
            detail = self._detail(chosen) if chosen else Markup()
        except CoreError as error:
            return error_message(error)
        if not overviews:
            return Markup()
        return render(
            TEMPLATE,
            overviews=overviews,
            selected=selected,
            detail=detail,
            address=json.dumps({"tuning": chosen.name if chosen else None}),
            state_dot=state_dot,
        )

    def stop(self, name: str) -> None:
        """Stop a tuning.

        Raises:
            CoreError: There is no such tuning, or it is not running.
        """
        background.stop(name, self._store, self._opened())

    def resume(self, name: str) -> None:
        """Continue a tuning.

        Raises:
            CoreError: There is no such tuning, or nothing of it is left to do.
        """
        background.resume(name, self._store, self._opened())

    def final_runs(self, name: str) -> list[str]:
        """Ids of one completed final run of each method, which Compare shows with all its seeds.

        Raises:
            CoreError: There is no such tuning.
        """
        tuning = Tuning.stored(name, self._store, self._opened())
        return _compared(self._result(tuning, Overviews(self._store, self._opened()).get(name)))

    def _all(self) -> Sequence[Overview]:
        if self._storage is None:
            self._storage = studies.existing_storage(self._workspace)
        if self._storage is None:
            return ()
        if self._overviews is None:
            self._overviews = Overviews(self._store, self._storage)
        return self._overviews.list()

    def _opened(self) -> RDBStorage:
        return self._storage or studies.open_storage(self._workspace)

    def _detail(self, overview: Overview) -> Markup:
        tuning = Tuning.stored(overview.name, self._store, self._opened())
        found = self._result(tuning, overview)
        ended = overview.state in (TuningState.COMPLETED, TuningState.FAILED)
        return render(
            "pages/runs/tuning.html.j2",
            overview=overview,
            plan=overview.plan,
            columns=result.COLUMNS,
            rows=result.rows(found),
            sentences=result.sentences(found) if ended else [],
            compared=_compared(found),
        )

    def _result(self, tuning: Tuning, overview: Overview) -> Result:
        """The result, which is worked out again only after a change."""
        finals = [
            (run.id, run.state, run.finished_at)
            for method in tuning.methods
            for run in tuning.final_runs(method.study).values()
        ]
        key = overview, tuple(finals)
        known = self._results.get(tuning.name)
        if known is None or known[0] != key:
            known = self._results[tuning.name] = key, result.result_of(tuning)
        return known[1]


def _compared(found: Result) -> list[str]:
    finals = [method.finals[0].id for method in found.methods if method.test is not None]
    return finals[:MOST]
