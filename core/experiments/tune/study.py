"""Optuna studies in the database of the store: one study per method, with its trials."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy as sa
import sqlalchemy.orm  # otherwise imported by Optuna, while other threads use SQLAlchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from core.errors import ConfigurationError, StoreError, unknown_name
from core.experiments.tune.plan import Plan
from core.experiments.tune.space import Params, Setting, combinations, defaults
from core.runs.postgres import DRIVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from core.workspace import Workspace

RANDOM_TRIALS = 3
"""Trials that are drawn at random, after the default settings, before TPE proposes values."""
PRUNE_AFTER = 3
"""Completed trials that are needed before a trial is stopped."""
LOCKED_SECONDS = 60.0

RUNS, PRUNED, ENDED, HELD = "runs", "pruned_at", "ended", "held"
"""Attributes of a trial: run by seed; epoch at which it was pruned; why it has no score; whether
its waiting runs were taken from the queue because the tuning was stopped."""
PLAN, SPACE, WINNER, FINALS, OWNER = "plan", "space", "winner", "final_runs", "owner"
"""Attributes of a study."""
STATE, PROBLEM = "state", "problem"
"""Attributes of a study: one of the following, or None while a command runs the tuning; why the
explorer stopped it."""
BACKGROUND, STOPPED, OVER = "background", "stopped", "over"
"""The explorer runs the tuning; the user stopped it; it has run to its end."""

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def open_storage(workspace: Workspace) -> RDBStorage:
    """Open Optuna's tables in the database of the store; they are created if there are none.

    Args:
        workspace: The workspace; its store exists.

    Raises:
        StoreError: The database cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url, options = _database(workspace)
    address = url.render_as_string(hide_password=False)
    try:
        # Optuna formats the address.
        return RDBStorage(
            address.replace("{", "{{").replace("}", "}}"),
            engine_kwargs={"poolclass": sa.pool.NullPool, **options},
        )
    except (sa.exc.SQLAlchemyError, RuntimeError) as error:
        raise unreadable(error) from error


def existing_storage(workspace: Workspace) -> RDBStorage | None:
    """Optuna's tables in the database of the store; None if there are none, as before a tuning.

    Raises:
        StoreError: The database cannot be opened.
    """
    url, options = _database(workspace)
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool, **options)
    try:
        exists = sa.inspect(engine).has_table("studies")
    except sa.exc.SQLAlchemyError as error:
        raise unreadable(error) from error
    return open_storage(workspace) if exists else None


def unreadable(error: Exception) -> StoreError:
    """An error of Optuna's tables as one of the store."""
    message = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return StoreError(
        f"The tables of the tuning cannot be opened ({message}).",
        "Check the store, or choose another workspace with --workspace DIR.",
    )


def stored_plans(storage: RDBStorage) -> dict[str, Plan]:
    """The plans of the tunings in the store by their names, in the order of their creation."""
    plans = {}
    for study, attributes in stored_attributes(storage):
        name = study.rpartition("/")[0]
        if PLAN in attributes and name not in plans:
            plans[name] = Plan.from_json(attributes[PLAN])
    return plans


def stored_plan(storage: RDBStorage, name: str) -> Plan | None:
    """The plan of a tuning in the store; None if there is no tuning of this name."""
    return stored_plans(storage).get(name)


def stored_names(storage: RDBStorage) -> list[str]:
    """Names of the tunings in the store, in the order of their creation."""
    names = (study.rpartition("/")[0] for study, _ in stored_attributes(storage) if "/" in study)
    return list(dict.fromkeys(names))


def stored_attributes(storage: RDBStorage) -> list[tuple[str, dict[str, Any]]]:
    """Name, ``TUNING/METHOD``, and attributes of each study, in the order of their creation."""
    summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
    return [(summary.study_name, summary.user_attrs) for summary in summaries]


def plan_named(storage: RDBStorage, name: str) -> Plan:
    """The plan of a tuning in the store.

    Raises:
        ConfigurationError: There is no tuning of this name.
    """
    plan = stored_plan(storage, name)
    if plan is None:
        raise unknown_name("tuning", name, stored_names(storage))
    return plan


@dataclass
class MethodStudy:
    """The study of one method: proposes trials, and records their runs, epochs and scores.

    Attributes:
        method: Name of the method.
        space: Its search space.
        study: The study of Optuna.
        storage: Its storage.
    """

    method: str
    space: Sequence[Setting]
    study: optuna.Study
    storage: RDBStorage

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials in one of these states, by default all, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def ask(self) -> FrozenTrial | None:
        """Propose the next trial; None if all combinations of values have been tried.

        The proposal depends on the trials so far and on the number of the trial, so that a tuning
        that was killed proposes the same values as one that was not.
        """
        finite = combinations(self.space)
        if finite is not None and not self.trials(TrialState.WAITING):
            tried = [trial.params for trial in self.trials()]
            untried = [values for values in finite if values not in tried]
            if not untried:
                return None
            index = _seed(self.method, len(tried)) % len(untried)
            self.study.enqueue_trial(untried[index])
        self._seed_sampler(len(self.trials()))
        trial = self.study.ask(_distributions(self.space))
        return self.frozen(trial.number)

    def complete_proposal(self, trial: FrozenTrial) -> FrozenTrial:
        """Propose the values that are missing because the process was killed while it asked."""
        missing = [setting for setting in self.space if setting.name not in trial.params]
        if not missing:
            return trial
        self._seed_sampler(trial.number)
        asked = Trial(self.study, trial._trial_id)
        for setting in self.space:
            if setting.choices:
                asked.suggest_categorical(setting.name, setting.choices)
            else:
                asked.suggest_float(setting.name, setting.low, setting.high, log=setting.log)
        return self.frozen(trial.number)

    def frozen(self, number: int) -> FrozenTrial:
        """The present record of a trial."""
        return self.trials()[number]

    def note(self, trial: FrozenTrial, key: str, value: Any) -> None:
        """Record an attribute of a trial."""
        self.storage.set_trial_user_attr(trial._trial_id, key, value)

    def report(self, trial: FrozenTrial, epoch: int, score: float) -> None:
        """Record the best validation AUROC up to an epoch."""
        self.storage.set_trial_intermediate_value(trial._trial_id, epoch, score)

    def should_prune(self, trial: FrozenTrial, epochs: int) -> bool:
        """Whether the last recorded epoch scores below the median of the completed trials.

        Args:
            trial: The trial.
            epochs: Epochs of its runs; none is stopped before a third of them.
        """
        pruner = optuna.pruners.MedianPruner(PRUNE_AFTER, n_warmup_steps=max(1, epochs // 3))
        return pruner.prune(self.study, self.frozen(trial.number))

    def tell(self, trial: FrozenTrial, score: float | None, ended: str = "") -> None:
        """Record the end of a trial.

        Args:
            trial: The trial.
            score: Its score; None if it failed, or if it was pruned.
            ended: Why it has no score; empty if it was pruned.
        """
        if score is not None:
            self.study.tell(trial.number, score)
        elif ended:
            self.note(trial, ENDED, ended)
            self.study.tell(trial.number, state=TrialState.FAIL)
        else:
            self.study.tell(trial.number, state=TrialState.PRUNED)

    def best(self) -> FrozenTrial | None:
        """The completed trial with the highest score, of equal ones the first; None without one."""
        completed = self.trials(TrialState.COMPLETE)
        return max(completed, key=lambda trial: (trial.value, -trial.number), default=None)

    @property
    def winner(self) -> FrozenTrial | None:
        """The chosen trial; None before the choice."""
        number = self.study.user_attrs.get(WINNER)
        return None if number is None else self.frozen(number)

    def choose(self) -> FrozenTrial | None:
        """Record the choice; None if no trial is completed."""
        if self.winner is None:
            best = self.best()
            if best is not None:
                self.study.set_user_attr(WINNER, best.number)
        return self.winner

    def _seed_sampler(self, number: int) -> None:
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=1 + RANDOM_TRIALS, seed=_seed(self.method, number)
        )


def open_study(
    storage: RDBStorage, name: str, plan: Plan, method: str, space: Sequence[Setting]
) -> MethodStudy:
    """Open the study of a method, or create it with the default settings as its first trial.

    Args:
        storage: The storage.
        name: Name of the tuning.
        plan: Its plan, which is recorded.
        method: Name of the method.
        space: Its search space; that of an earlier start is kept.

    Raises:
        ConfigurationError: The tuning of this name has another plan.
    """
    study = optuna.create_study(
        storage=storage, study_name=f"{name}/{method}", direction="maximize", load_if_exists=True
    )
    before = study.user_attrs.get(PLAN)
    if before is not None and Plan.from_json(before) != plan:
        raise ConfigurationError(
            f"There is a tuning named {name} with other settings.",
            "Give another --name, or leave out all other options to continue that one.",
        )
    if SPACE not in study.user_attrs:
        study.set_user_attr(SPACE, [asdict(setting) for setting in space])
    if before is None:
        study.set_user_attr(PLAN, plan.as_json())
    kept = space_from_json(study.user_attrs[SPACE])
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(defaults(kept))
    return MethodStudy(method, kept, study, storage)


def stored_studies(storage: RDBStorage, name: str) -> list[MethodStudy]:
    """The studies of a tuning in the store, in the order of their creation."""
    studies = []
    for full_name, attributes in stored_attributes(storage):
        prefix, _, method = full_name.rpartition("/")
        if prefix == name and SPACE in attributes:
            study = optuna.load_study(study_name=full_name, storage=storage)
            space = space_from_json(attributes[SPACE])
            studies.append(MethodStudy(method, space, study, storage))
    return studies


def space_from_json(value: Iterable[dict[str, Any]]) -> tuple[Setting, ...]:
    """The search space that a study recorded."""
    return tuple(Setting(**each | {"choices": tuple(each["choices"])}) for each in value)


def params_of(trial: FrozenTrial) -> Params:
    """Values of a trial by the names of the settings."""
    return dict(trial.params)


def _database(workspace: Workspace) -> tuple[sa.URL, dict[str, Any]]:
    """Address of the database of the store, and options of its engine."""
    if workspace.database:
        return sa.make_url(workspace.database).set(drivername=DRIVER), {}
    # A statement that writes takes its turn at once, instead of failing after it has read.
    arguments = {"timeout": LOCKED_SECONDS, "isolation_level": "IMMEDIATE"}
    return sa.URL.create("sqlite", database=str(workspace.store)), {"connect_args": arguments}


def _distributions(space: Sequence[Setting]) -> dict[str, BaseDistribution]:
    return {
        setting.name: CategoricalDistribution(setting.choices)
        if setting.choices
        else FloatDistribution(setting.low, setting.high, log=setting.log)
        for setting in space
    }


def _seed(text: str, number: int) -> int:
    return int(hashlib.sha256(f"{text} {number}".encode()).hexdigest()[:8], 16)
