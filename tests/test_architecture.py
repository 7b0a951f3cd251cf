"""The layout of docs/architecture.md: floors, packages that load no torch, names of files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.programs import output_of

FILES = {
    str(file.relative_to(ROOT))
    .removesuffix(".py")
    .replace("/", ".")
    .removesuffix(".__init__"): file
    for top in ("core", "explorer")
    for file in sorted((ROOT / top).rglob("*.py"))
}

FLOORS: list[dict[str, set[str]]] = [
    {"core.errors": set(), "core.formatting": set(), "core.reporter": set(), "core.startup": set(),
     "core.metrics": set()},
    {"core.config": {"core.metrics"}, "core.hardware": {"core.metrics"},
     "core.files": {"core.metrics"}, "core.workspace": {"core.metrics"}},
    {"core.data": {"core.metrics"}, "core.models": {"core.metrics"},
     "core.runs": {"core.metrics", "core.hardware"}},
    {"core.classifier": {"core.runs"}, "core.pretraining": {"core.runs"},
     "core.evaluation": set()},
    {"core.resources": {"core.runs", "core.pretraining", "core.evaluation"}},
    {"core.training": set(), "core.saliency": {"core.runs"}, "core.export": {"core.runs"},
     "core.experiments": set(), "core.build_assets": {"core.runs"}},
    {"explorer": set(), "core.benchmarks": set()},
    {"core.cli": {"explorer"}},
    {"core": {"explorer"}, "core.__main__": {"explorer"}},
]  # fmt: skip
"""Packages from the lowest floor to the highest, each with lower ones that it must not import.

A package imports lower floors only, and no other package of its own floor.
"""

INSIDE: dict[str, list[set[str]]] = {
    "core.data": [
        {"problems", "findings", "augmentation"}, {"images"}, {"base"},
        {"transforms", "splits", "phantoms"}, {"folds"}, {"datasets"},
        {"cache", "checks", "subsets"},
    ],
    "core.models": [{"backbones"}, {"tuning"}, {"peft_files", "parity"}],
    "core.saliency": [
        {"methods"}, {"explain", "upsample", "dicom_export", "out_of_distribution"}, {"scores"},
        {"request", "report", "hit_rates"},
    ],
    "explorer": [
        {"formatting", "figures", "templates", "theme", "context", "page"}, {"components"},
        {"pages"}, {"server"}, {"app"},
    ],
}  # fmt: skip
"""Order inside packages: a part imports parts of the same set or of sets before it."""

WITHOUT_TORCH = ("core.errors", "core.formatting", "core.reporter", "core.startup",
                 "core.metrics", "core.config", "core.files", "core.workspace", "core.runs",
                 "core.evaluation.verdict", "core.cli", "core.__main__",
                 "explorer.app")  # fmt: skip
"""Packages and modules that load no torch when they are imported."""


def imported(file: Path) -> set[str]:
    """Names of all modules a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in FILES else node.module for name in full}
    return names


def within(module: str, package: str) -> bool:
    """Whether a module is a package or lies in it; ``core`` itself is the file alone."""
    return module == package or (package != "core" and module.startswith(f"{package}."))


def floor_of(module: str) -> tuple[int, str]:
    """The floor of a module, from 0, and its package."""
    matches = [
        (i, name) for i, floor in enumerate(FLOORS) for name in floor if within(module, name)
    ]
    assert len(matches) == 1, f"{module} has no place in FLOORS"
    return matches[0]


def violations() -> Iterator[str]:
    """Every import that breaks the table, as text."""
    for module, file in FILES.items():
        own, package = floor_of(module)
        for other in sorted(imported(file) & FILES.keys()):
            floor, target = floor_of(other)
            if target == package:
                continue
            if floor >= own or target in FLOORS[own][package]:
                yield f"{module} imports {other}"


def test_imports_keep_the_floors() -> None:
    assert not list(violations())


@pytest.mark.parametrize("package", INSIDE)
def test_imports_inside_a_package_keep_its_order(package: str) -> None:
    place = {part: i for i, parts in enumerate(INSIDE[package]) for part in parts}
    broken = []
    for module, file in FILES.items():
        if not module.startswith(f"{package}."):
            continue
        part = module.removeprefix(f"{package}.").split(".")[0]
        for other in imported(file) & FILES.keys():
            if other.startswith(f"{package}."):
                target = other.removeprefix(f"{package}.").split(".")[0]
                if place[target] > place[part]:
                    broken.append(f"{module} imports {other}")
    assert not broken


def test_there_is_no_circle_of_imports() -> None:
    graph = {name: imported(file) & FILES.keys() - {name} for name, file in FILES.items()}
    while leaves := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not sorted(graph)


def test_no_page_imports_another_page() -> None:
    pages = {name: name.split(".")[2] for name in FILES if name.startswith("explorer.pages.")}
    broken = [
        f"{name} imports {other}"
        for name, page in pages.items()
        for other in imported(FILES[name]) & pages.keys()
        if pages[other] != page
    ]
    assert not broken


def test_figures_know_no_gradio() -> None:
    for name, file in FILES.items():
        if name.startswith("explorer.figures"):
            assert not {one for one in imported(file) if one.split(".")[0] == "gradio"}, name


def test_core_knows_no_screen() -> None:
    for name, file in FILES.items():
        if name.split(".")[0] == "core":
            assert not {one for one in imported(file) if one.split(".")[0] == "gradio"}, name


@pytest.mark.parametrize("top", ["core", "explorer"])
def test_few_files_lie_at_the_root_of_a_package(top: str) -> None:
    assert len(list((ROOT / top).glob("*.py"))) <= 8


def test_no_file_is_named_after_nothing() -> None:
    empty = {"utils", "helpers", "common", "misc", "util", "helper"}
    assert not [name for name in FILES if name.rpartition(".")[2] in empty]


def test_tests_mirror_the_source() -> None:
    """A test of one module is named after it; others test several modules of their package."""
    for top in ("core", "explorer"):
        folders = {file.parent for file in (ROOT / "tests" / top).rglob("test_*.py")}
        missing = [f for f in folders if not (ROOT / f.relative_to(ROOT / "tests")).is_dir()]
        assert not missing


@pytest.mark.slow
def test_packages_without_torch_load_none() -> None:
    modules = [name for name in FILES if any(within(name, top) for top in WITHOUT_TORCH)]
    output_of(f"import sys, {', '.join(modules)}; assert 'torch' not in sys.modules")


def test_the_command_line_starts_with_few_libraries() -> None:
    """What makes ``--help`` slow is what it imports; the time itself is measured by a benchmark."""
    slow = {"gradio", "numpy", "pandas", "scipy", "sklearn", "sqlalchemy", "torch", "PIL"}
    output_of(f"import sys, core.cli.app; assert not {slow} & set(sys.modules)")
