"""README, documentation and notebooks: commands can be run, links and stored numbers are right."""

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
import typer.main
import yaml

from core.config.run import RunSpec
from core.runs.store import open_store
from core.workspace import Workspace
from explorer.pages.help import stored_results
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
SITE = DOCS / "site" / "mkdocs.yml"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOADED = re.compile(r"(<(?:script|link|img|iframe)[^>]*?)(https?://[^\" >]+)")
OF_THE_SYSTEM = ("python3 -m venv", "apt-get install", "createdb", "ssh")
"""Commands of other programs that are not tried here."""


def blocks(path: Path, *languages: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(path.read_text()) if kind in languages]


def commands() -> Iterator[tuple[str, str]]:
    """Every command of every page, one at a time."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                for part in re.split(r"\s*&&\s*", re.sub(r"(^|\s{2,}|\s)#.*$", "", line).strip()):
                    if part:
                        yield str(page.relative_to(ROOT)), part


COMMANDS = list(dict.fromkeys(commands()))


def example(text: str) -> str:
    """The Python example, on whichever page, that contains a text."""
    (code,) = {code for page in PAGES for code in blocks(page, "python") if text in code}
    return code


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) > 50


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda text: text[:70])
def test_every_command_can_be_given(page: str, command: str, tmp_path: Path) -> None:
    words = [one for one in shlex.split(command) if one]
    while re.match(r"(export$|[A-Z_]+=)", words[0]):  # variables before, or instead of, a command
        words.pop(0)
        if not words:
            return
    program = shlex.join(words).replace(".venv/bin/", "")
    if program.startswith(OF_THE_SYSTEM) or program.startswith(". "):
        return
    words = shlex.split(program)
    if words[0] == "uv":
        words = words[2:] if words[2] != "--extra" else words[4:]
    if words[:2] == ["pip", "install"] or words[0] == "pip":
        assert {one for one in words[2:] if one[0] == "."} <= installable()
    elif words[:3] == ["python", "-m", "core"]:
        parse(words[3:], tmp_path)
    elif words[0] == "torchrun" or words[:2] == ["accelerate", "launch"]:
        parse(words[words.index("core") + 1 :], tmp_path)
    elif words[:2] == ["python", "app.py"]:
        assert set(re.findall(r"--[\w-]+", command)) <= options_of_app()
    elif words[:3] == ["python", "-m", "pytest"] or words[0] == "pytest":
        paths = [one for one in words[3:] if one[0] != "-" and one not in ("slow", "not slow")]
        assert all((ROOT / one).exists() for one in paths)
    elif words[:2] == ["python", "-m"]:
        assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file()
    elif words[:2] == ["jupyter", "lab"]:
        assert (ROOT / words[2]).exists()
    elif words[0] == "app.py":
        assert (ROOT / "app.py").is_file()
    elif words[0] == "mkdocs":
        assert (ROOT / words[words.index("-f") + 1]).is_file()
    elif words[0] in ("ruff", "mypy"):
        assert any(one.startswith(words[0]) for one in PROJECT["optional-dependencies"]["test"])
    else:
        pytest.fail(f"{page}: nobody knows how to try “{command}”")


def installable() -> set[str]:
    extras = PROJECT["optional-dependencies"]
    return {"."} | {f".[{name}]" for name in extras}


def options_of_app() -> set[str]:
    tree = ast.parse((ROOT / "app.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    added = [
        c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "add_argument"
    ]
    return {str(ast.literal_eval(call.args[0])) for call in added}


def parse(words: list[str], place: Path) -> None:
    """Have the command line read a command to its end, without carrying it out."""
    from core.cli.app import app

    (place / "DIR").mkdir()
    (place / "FILE").touch()
    named = {"DIR": str(place / "DIR"), "FILE": str(place / "FILE")}
    given = [re.sub(r"\b(DIR|FILE)\b", lambda m: named[m.group()], one) for one in words]
    command: Any = typer.main.get_command(app)
    context = command.make_context("core", list(given))
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, list(rest), parent=context)


@pytest.mark.parametrize(
    "words", ["list backbones", "list datasets", "list methods", "runs", "queue", "data names"]
)
def test_what_needs_nothing_is_carried_out(words: str, workspace: Workspace) -> None:
    from typer.testing import CliRunner

    from core.cli.app import app

    result = CliRunner().invoke(app, words.split(), env={"CXR_WORKSPACE": str(workspace.root)})
    assert result.exit_code == 0, result.output


def test_a_data_set_a_backbone_and_a_method_are_added_by_the_text_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from core.data.datasets.registry import DATASETS
    from core.models.backbones.registry import BACKBONES
    from core.models.tuning.registry import TUNING_METHODS
    from core.training.run_here import run_in_process

    reader = example("class Stripes(ChestDataset)")
    entries = [example(f"{name} = ") for name in (
        'DATASETS["stripes"]', 'BACKBONES["pocket-vit"]', 'TUNING_METHODS["positions"]'
    )]  # fmt: skip
    trial = example("trains = count_parameters(")
    for code in (reader, *entries, trial):
        assert len(code.splitlines()) < 40
    module = ModuleType("core.data.datasets.stripes")
    exec(reader, module.__dict__)
    monkeypatch.setitem(sys.modules, "core.data.datasets.stripes", module)
    for catalogue in (DATASETS, BACKBONES, TUNING_METHODS):
        for name in ("stripes", "pocket-vit", "positions"):
            monkeypatch.delitem(catalogue, name, raising=False)
    names: dict[str, Any] = {}
    try:
        for code in (*entries, trial):
            exec(code, names)
        assert isinstance(names["spec"], RunSpec)
        store = open_store(workspace, create=True)
        run = run_in_process(names["spec"], workspace)
        store.close()
    finally:
        DATASETS.pop("stripes", None)
        BACKBONES.pop("pocket-vit", None)
        TUNING_METHODS.pop("positions", None)
    assert "parameters train" in capsys.readouterr().out
    assert run.scores is not None
    assert run.trainable == names["trains"].trainable
    assert 0 <= run.scores["test"]["auroc"] <= 1


@pytest.mark.slow
def test_an_export_loads_by_the_lines_of_its_page(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import warnings

    from core.data.datasets.write_folder import save
    from core.data.phantoms.dataset import Phantom
    from core.export.export import export_run
    from core.training.run_here import run_in_process

    chests = Phantom("phantom-14", train=40, val=20, test=20, size=64)
    folder = save(chests, workspace.root / "chests")
    spec = RunSpec.of(
        **{"data.name": "folder", "data.root": folder, "data.label_fraction": 1.0,
           "train.epochs": 1}
    )  # fmt: skip
    store = open_store(workspace, create=True)
    run = run_in_process(spec, workspace)
    store.close()
    monkeypatch.chdir(workspace.root)
    export_run(workspace.run(run.id), "peft", workspace.root / "DIR")
    code = example("model = timm.create_model(")
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unsupported layer type")
        exec(code, names)
    assert names["model"].base_model.model.num_classes == 14


def texts() -> Iterator[tuple[Path, str]]:
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        yield page, BLOCK.sub("", page.read_text())
    for book in BOOKS:
        read: Any = nbformat.read(book, as_version=4)  # type: ignore[no-untyped-call]
        cells = [cell.source for cell in read.cells if cell.cell_type == "markdown"]
        yield book, "\n\n".join(cells)


def anchors(text: str) -> set[str]:
    """What GitHub and MkDocs make of the headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    plain = [re.sub(r"[`*_]|\[([^]]*)\]\([^)]*\)", r"\1", one).lower() for one in titles]
    return {re.sub(r"[^\w\- ]", "", one).strip().replace(" ", "-") for one in plain}


def test_links_lead_to_files_and_headings_that_are_there() -> None:
    known = {path.resolve(): anchors(text) for path, text in texts()}
    broken = []
    for page, text in texts():
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`|\$[^$\n]*\$", "", text)):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            place = (page.parent / file).resolve() if file else page.resolve()
            if not place.exists() or (anchor and anchor not in known.get(place, set())):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def test_every_notebook_and_page_is_named_in_the_overview() -> None:
    overview = (DOCS / "index.md").read_text()
    navigation = SITE.read_text()
    assert not [book.stem for book in BOOKS if f"`{book.stem}`" not in overview]
    pages = [str(path.relative_to(DOCS)) for path in PAGES[1:]]
    assert not [name for name in pages if f"- {name}\n" not in navigation]
    guides = [name for name in pages if "/" not in name and name != "index.md"]
    assert not [name for name in guides if f"({name})" not in overview]


def test_the_readme_is_short_and_has_its_numbers_from_the_stored_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 180
    values = {**stored_results.transfer_values(), **stored_results.verdict_values()}
    found = re.sub(r"\s+", " ", readme.partition("## What we found")[2].partition("\n## ")[0])
    for sentence in (
        "full fine-tuning in {transfer-full-wins} comparisons",
        "linear probe in {transfer-linear-wins}; {transfer-linear-clear} differences remain",
        "random weights is last in {transfer-random-below} columns",
        "ahead in {verdict-wins} tasks, by {verdict-mean} points on average",
        "LoRA trains {verdict-share} of the parameters",
    ):
        assert re.sub(r"\{([\w-]+)\}", lambda name: values[name[1]], sentence) in found
    assert values["transfer-full-clear"] == "0"
    assert "No single difference remains" in found
    explained = (DOCS / "speed.md").read_text() + (DOCS / "reliability.md").read_text()
    for number in ("0.07 s", "31 ×", "50 runs end with identical weights"):
        assert number in explained


def test_architecture_names_every_file_of_the_tree() -> None:
    tree = (DOCS / "architecture.md").read_text().split("```text")[1].split("```")[0]
    named = set(re.findall(r"\w+", tree))
    folders = ("core", *(f"core/{folder.name}" for folder in (ROOT / "core").iterdir()))
    listed = [*folders, "explorer", "explorer/components", "explorer/server"]
    unlisted = {"core/benchmarks", "core/build_assets", "core/cli"}  # described as a whole
    files = [
        file
        for folder in listed
        if folder not in unlisted
        for file in (ROOT / folder).glob("*.py")
        if not file.stem.startswith("_")
    ]
    assert not [str(file.relative_to(ROOT)) for file in files if file.stem not in named]


def test_architecture_has_the_floors_that_are_tested() -> None:
    from tests.test_architecture import FLOORS

    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", (DOCS / "architecture.md").read_text(), re.M)
    written = {
        name.rstrip("/").removesuffix(".py").replace("/", "."): int(floor)
        for floor, names in rows
        for name in re.findall(r"`([^`]+)`", names)
    }
    tested = {name: i for i, floor in enumerate(FLOORS, start=1) for name in floor}
    shared = {"core", "core.__main__"}  # the table names them after the command line
    assert {name: written.get(name) for name in tested.keys() - shared} == {
        name: floor for name, floor in tested.items() if name not in shared
    }


def test_the_files_of_the_project_name_the_same_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert "2401.12215" in citation["references"][0]["url"]
    released = f"## {citation['version']} - {citation['date-released']}"
    assert released in (ROOT / "CHANGELOG.md").read_text().splitlines()


def test_the_workflow_runs_the_checks_and_forms_are_complete() -> None:
    folder = ROOT / ".github"
    (job,) = yaml.safe_load((folder / "workflows" / "tests.yml").read_text())["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    for name in ("bug.yml", "request.yml"):
        form = yaml.safe_load((folder / "ISSUE_TEMPLATE" / name).read_text())
        assert {"name", "description", "body"} <= form.keys()
        ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(set(ids)) == len(ids) > 1


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    if importlib.util.find_spec("material") is None or not importlib.util.find_spec("mkdocstrings"):
        pytest.skip("the documentation's tools are not installed: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-f", str(SITE)]
    made = subprocess.run(
        [*command, "-d", str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    for page in (tmp_path / "site").rglob("*.html"):
        found = LOADED.findall(page.read_text())
        foreign = [address for tag, address in found if 'rel="canonical"' not in tag]
        assert not foreign, (page.name, foreign)
    reference = (tmp_path / "site" / "reference" / "run" / "index.html").read_text()
    assert "label_fraction" in reference
    assert "--split-file" in (tmp_path / "site" / "reference" / "cli" / "index.html").read_text()
    transfer = (tmp_path / "site" / "transfer" / "index.html").read_text()
    assert "{{" not in transfer
    assert f"{stored_results.value('transfer-runs')} runs with seeds 0 to 4" in transfer
