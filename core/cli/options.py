"""Options of verbs from the fields of ``RunSpec``."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from core.config.fields import Field, fields
from core.config.run import DataSpec, RunSpec
from core.config.tuned import with_tuned_defaults

Verb = Callable[..., None]
GIVEN = "given"
"""Parameter by which a verb receives the dotted names of the settings that were given."""

SUBSET_FIELDS = (
    "data.label_fraction", "data.subset_seed", "data.split_file", "data.skip_bad",
    "data.fold",    "data.shuffle_labels", "data.called",
)  # fmt: skip
"""Settings of a run's part of a data set, which verbs on whole data sets do not have."""


def with_settings(*, recipes: bool = False) -> Callable[[Verb], Verb]:
    """Give a verb one option for each field of ``RunSpec``; it receives the validated ``spec``.

    If it has a parameter ``given``, it also receives the names of the settings that were given.

    Args:
        recipes: Add the option ``--recipe``, which sets the options that are not given; without
            a recipe, settings that are left open have their tuned defaults, if there are any.
    """
    return lambda verb: _wrapped(
        verb, "spec", lambda path: True, lambda spec: spec, recipes=recipes
    )


def with_source() -> Callable[[Verb], Verb]:
    """Give a verb the options of data set, backbone and device; it receives them as ``spec``."""
    prefixes, excluded = ("data.", "model.", "train.device"), set(SUBSET_FIELDS) - {"data.skip_bad"}
    return lambda verb: _wrapped(
        verb,
        "spec",
        lambda path: path.startswith(prefixes) and path not in excluded,
        lambda spec: spec,
    )


def with_data(*, positional: bool = True) -> Callable[[Verb], Verb]:
    """Give a verb a data set and the options that open it; it receives them as ``data``.

    Args:
        positional: Whether the name is an argument of the verb, or the option ``--data``.
    """
    return lambda verb: _wrapped(
        verb,
        "data",
        lambda path: path.startswith("data.") and path not in SUBSET_FIELDS,
        lambda spec: spec.data.source(),
        positional=positional,
    )


def _wrapped(
    verb: Verb,
    receives: str,
    includes: Callable[[str], bool],
    part: Callable[[RunSpec], RunSpec | DataSpec],
    *,
    positional: bool = True,
    recipes: bool = False,
) -> Verb:
    # The annotations of the verb are strings, and contain its own options.
    known = {"RunSpec": RunSpec, "DataSpec": DataSpec}
    hints = typing.get_type_hints(verb, localns=known, include_extras=True)
    signature = inspect.signature(verb).parameters
    own = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name])
        for p in signature.values()
        if p.name not in (receives, GIVEN)
    ]
    argument = receives == "data" and positional
    options, paths = [], {}
    for field in fields():
        if includes(field.path):
            option = _option(field, argument=argument, default_name=positional)
            options.append(option)
            paths[option.name] = field.path

    def wrapped(**given: Any) -> None:
        recipe, context = given.pop("recipe", "default"), given.pop("context", None)
        chosen = _given(paths, context) if context is not None else set()
        values = {path: _absolute(given.pop(name)) for name, path in paths.items()}
        spec = _resolve_data(RunSpec.of(**values), given.get("folder"))
        if recipe != "default":
            spec = _with_recipe(recipe, spec, chosen)
        elif recipes:
            spec = _with_tuned_defaults(spec)
        extra = {GIVEN: chosen} if GIVEN in signature else {}
        verb(**{receives: part(spec)}, **extra, **given)

    needed = [_RECIPE] * recipes + [_CONTEXT] * (recipes or GIVEN in signature)
    parameters = [*options, *needed, *own]
    wrapped.__name__, wrapped.__doc__ = verb.__name__, verb.__doc__
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapped


def _option(field: Field, *, argument: bool, default_name: bool) -> inspect.Parameter:
    """Parameter of one field; the name of the data set may be an argument of the verb."""
    name = field.option.replace("-", "_")
    kind = _option_type(field.annotation)
    flag = f"--{field.option}"
    declared = f"{flag}/--no-{field.option}" if kind is bool else flag
    default = field.default
    option = typer.Option(declared, help=field.description, show_default=default is not None)
    if argument and field.path == "data.name":
        name, option = "data", typer.Argument(help=field.description, metavar="NAME")
        default = inspect.Parameter.empty
    elif not default_name and field.path == "data.name":
        default = "folder"
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def _resolve_data(spec: RunSpec, workspace: Path | None) -> RunSpec:
    """The specification with a registered data set replaced by the one it names."""
    from core.data.datasets.registry import DATASETS

    if spec.data.name in DATASETS:
        return spec
    from core.data.datasets.registered import resolved_run
    from core.workspace import workspace_at

    return resolved_run(workspace_at(workspace), spec)


_RECIPE = inspect.Parameter(
    "recipe",
    inspect.Parameter.KEYWORD_ONLY,
    default="default",
    annotation=Annotated[
        str,
        typer.Option(
            help="default, or paper: epochs, optimizer, learning rate, rank and augmentation of "
            "the paper for the backbone, data set, label fraction and method; options that you "
            "give are kept."
        ),
    ],
)


_CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def _given(paths: dict[str, str], context: typer.Context) -> set[str]:
    """Dotted names of the settings that were given on the command line."""
    sources = {path: context.get_parameter_source(name) for name, path in paths.items()}
    return {path for path, source in sources.items() if source and source.name == "COMMANDLINE"}


def _with_recipe(recipe: str, spec: RunSpec, given: set[str]) -> RunSpec:
    """The specification with a recipe, except for options that were given; prints the changes."""
    from core.experiments.paper.recipes import follow

    followed = follow(recipe, spec, given)
    typer.echo(str(followed), err=True)
    return followed.spec


def _with_tuned_defaults(spec: RunSpec) -> RunSpec:
    """The specification with tuned values where it leaves settings open; prints that it is so."""
    tuned = with_tuned_defaults(spec)
    if tuned != spec:
        rate = tuned.resolved().train.lr
        typer.echo(f"Tuned defaults are used for {spec.title()}: learning rate {rate:g}.", err=True)
    return tuned


def _absolute(value: Any) -> Any:
    """Make a path absolute: the run may be executed in another working directory."""
    return value.expanduser().absolute() if isinstance(value, Path) else value


def _option_type(annotation: Any) -> Any:
    """Type of an option; ``RunSpec`` itself checks allowed values and ranges."""
    inner = [each for each in typing.get_args(annotation) if each is not type(None)]
    if typing.get_origin(annotation) is typing.Literal or annotation is str:
        return str
    if inner and type(None) in typing.get_args(annotation):
        return _option_type(inner[0]) | None
    return annotation
