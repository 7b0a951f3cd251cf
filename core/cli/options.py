"""The fields of ``RunSpec`` as options of a verb."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from core.config.fields import fields
from core.config.run import DataSpec, RunSpec

Verb = Callable[..., None]

OF_A_RUN = (
    "data.label_fraction", "data.subset_seed", "data.split_file", "data.skip_bad",
    "data.shuffle_labels", "data.called",
)  # fmt: skip
"""Settings of a run's share of a data set; what deals with the whole of it has no use for them."""


def with_settings(*, recipes: bool = False) -> Callable[[Verb], Verb]:
    """Give a verb one option for each field of ``RunSpec``; it receives the validated whole.

    Args:
        recipes: Offer ``--recipe`` too, which sets what is not given.
    """
    return lambda verb: _wrapped(
        verb, "spec", lambda path: True, lambda spec: spec, recipes=recipes
    )


def with_source() -> Callable[[Verb], Verb]:
    """Give a verb the options of data set, backbone and device, none of training, as ``spec``."""
    wanted, learnt = ("data.", "model.", "train.device"), set(OF_A_RUN) - {"data.skip_bad"}
    return lambda verb: _wrapped(
        verb,
        "spec",
        lambda path: path.startswith(wanted) and path not in learnt,
        lambda spec: spec,
    )


def with_data(*, positional: bool = True) -> Callable[[Verb], Verb]:
    """Give a verb the name of a data set and an option for each way to open it, as ``data``.

    Args:
        positional: Whether the name is the verb's argument, or the option ``--data``.
    """
    return lambda verb: _wrapped(
        verb,
        "data",
        lambda path: path.startswith("data.") and path not in OF_A_RUN,
        lambda spec: spec.data.source(),
        positional=positional,
    )


def _wrapped(
    verb: Verb,
    receives: str,
    wanted: Callable[[str], bool],
    part: Callable[[RunSpec], RunSpec | DataSpec],
    *,
    positional: bool = True,
    recipes: bool = False,
) -> Verb:
    # The verb's annotations are text; what stands in them carries its options.
    known = {"RunSpec": RunSpec, "DataSpec": DataSpec}
    hints = typing.get_type_hints(verb, localns=known, include_extras=True)
    own = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name])
        for p in inspect.signature(verb).parameters.values()
        if p.name != receives
    ]
    options, paths = [], {}
    for setting in fields():
        if not wanted(setting.path):
            continue
        name = setting.option.replace("-", "_")
        kind = _option_type(setting.annotation)
        flag = f"--{setting.option}"
        declared = f"{flag}/--no-{setting.option}" if kind is bool else flag
        help_text, default = setting.description, setting.default
        option = typer.Option(declared, help=help_text, show_default=default is not None)
        if receives == "data" and positional and setting.path == "data.name":
            name, option = "data", typer.Argument(help=help_text, metavar="NAME")
            default = inspect.Parameter.empty
        elif not positional and setting.path == "data.name":
            default = "folder"
        options.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[kind, option],
            )
        )
        paths[name] = setting.path

    def wrapped(**given: Any) -> None:
        recipe, context = given.pop("recipe", "default"), given.pop("context", None)
        fields = {path: _absolute(given.pop(name)) for name, path in paths.items()}
        spec = _named(RunSpec.of(**fields), given.get("folder"))
        if recipe != "default":
            spec = _followed(recipe, spec, paths, context)
        verb(**{receives: part(spec)}, **given)

    parameters = [*options, *([_RECIPE, _CONTEXT] if recipes else []), *own]
    wrapped.__name__, wrapped.__doc__ = verb.__name__, verb.__doc__
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {one.name: one.annotation for one in parameters}
    return wrapped


def _named(spec: RunSpec, workspace: Path | None) -> RunSpec:
    """The same with the name of a registered data set resolved."""
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
            help="default, or paper: the study's own epochs, optimizer, rates, rank and "
            "augmentation for the backbone, data set, label fraction and method; what you give "
            "yourself is kept."
        ),
    ],
)


_CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def _followed(recipe: str, spec: RunSpec, paths: dict[str, str], context: typer.Context) -> RunSpec:
    """The specification by a recipe, but for what was typed; tells what was set."""
    from core.experiments.paper.recipes import follow

    sources = {path: context.get_parameter_source(name) for name, path in paths.items()}
    given = {path for path, source in sources.items() if source and source.name == "COMMANDLINE"}
    found = follow(recipe, spec, given)
    typer.echo(str(found), err=True)
    return found.spec


def _absolute(value: Any) -> Any:
    """A run may be carried out from another folder than the one in which a path was typed."""
    return value.expanduser().absolute() if isinstance(value, Path) else value


def _option_type(annotation: Any) -> Any:
    """The type an option is read as; allowed words and ranges are the specification's to check."""
    inner = [one for one in typing.get_args(annotation) if one is not type(None)]
    if typing.get_origin(annotation) is typing.Literal or annotation is str:
        return str
    if inner and type(None) in typing.get_args(annotation):
        return _option_type(inner[0]) | None
    return annotation
