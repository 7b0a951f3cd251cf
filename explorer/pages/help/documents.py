"""Notebooks and how-to pages as the explorer's server shows them: read in place, without a network.

A checkout has them beside the code; an installed package has none and offers none.
"""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from core.workspace import ASSETS, STYLES
from explorer.page import SECURITY

ROOT = ASSETS.parent
PATH = "/read"
PAGES = (
    "datasets.md", "weights.md", "command-line.md", "gpu.md", "postgresql.md", "export.md",
    "extending.md", "methods.md", "backbones.md", "saliency.md", "phantoms.md", "transfer.md",
    "paper.md", "speed.md", "reliability.md", "architecture.md", "contributing.md", "security.md",
)  # fmt: skip
"""Pages of ``docs/`` in the order of its table of contents, without overview and reference."""

_LEARN = re.compile(r"\*\*You will learn\*\* (.+?)(?:\n\n|$)", re.DOTALL)
_TAKES = re.compile(r"\*\*It takes\*\* ([^.]+)\.")
_HEADING = re.compile(r"^# (.+)$", re.MULTILINE)
_LINK = re.compile(r'<a href="(?!https?:|#|mailto:)([^"#]*)(#[^"]*)?"[^>]*>(.*?)</a>', re.DOTALL)
_IMAGE = re.compile(r'src="\.\./assets/images/([\w-]+\.png)"')
_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)


@dataclass(frozen=True)
class Text:
    """Something to read.

    Attributes:
        name: Its file's name.
        title: Its heading.
        about: What one learns by it; empty where the text does not say.
        takes: How long it takes, in words; likewise.
    """

    name: str
    title: str
    about: str = ""
    takes: str = ""

    @property
    def address(self) -> str:
        """Where the explorer's server shows it."""
        return f"{PATH}/{self.name}"


def notebooks() -> list[Text]:
    """The tutorials in their order; none if the package was installed without them."""
    return [_outline(path) for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]


def pages() -> list[Text]:
    """The pages of the documentation; none if the package was installed without them."""
    paths = [ROOT / "docs" / name for name in PAGES]
    return [Text(path.name, _title(_opening(path))) for path in paths if path.is_file()]


def route() -> Route:
    """The place in the explorer's server where texts are shown."""
    return Route(f"{PATH}/{{name}}", _answer, methods=["GET"])


def shown(name: str) -> str | None:
    """A notebook or page as a whole HTML document; None if there is none of this name."""
    path = _path(name)
    return None if path is None else _document(path, path.stat().st_mtime_ns)


async def _answer(request: Request) -> Response:
    found = await run_in_threadpool(shown, request.path_params["name"])
    if found is None:
        return PlainTextResponse("There is no such page.", status_code=404)
    return HTMLResponse(found, headers=SECURITY)


def _path(name: str) -> Path | None:
    """The file of a name that is on offer, so that no other file can be asked for."""
    if name in PAGES:
        path = ROOT / "docs" / name
        return path if path.is_file() else None
    books = (ROOT / "notebooks").glob("[0-9]*.ipynb")
    return next((path for path in books if path.name == name), None)


def _outline(path: Path) -> Text:
    first = _opening(path)
    return Text(path.name, _title(first), _found(_LEARN, first), _found(_TAKES, first))


def _opening(path: Path) -> str:
    """A page, or a notebook's first cell; the rest is not looked at when the explorer starts."""
    text = path.read_text("utf-8")
    return "".join(json.loads(text)["cells"][0]["source"]) if path.suffix == ".ipynb" else text


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return " ".join(match[1].split()).translate({ord(c): None for c in "*`"}) if match else ""


def _title(text: str) -> str:
    match = _HEADING.search(text)
    return match[1] if match else ""


@lru_cache(maxsize=32)
def _document(path: Path, changed: int) -> str:
    if path.suffix == ".ipynb":
        from nbconvert import HTMLExporter

        exporter = HTMLExporter(template_name="basic")  # type: ignore[no-untyped-call]
        body, _ = exporter.from_filename(str(path))
        hint = f"To step through it: <code>jupyter lab notebooks/{path.name}</code>"
    else:
        from nbconvert.filters.markdown import markdown2html

        from explorer.pages.help.stored_results import expand

        body, hint = markdown2html(expand(path.read_text("utf-8"))), ""
        body = _IMAGE.sub(_embedded, body)
    body = _LINK.sub(_kept, _mathematics(_folded(body)))
    title = html.escape(_title(_opening(path)) or path.stem)
    style = (STYLES / "explorer.css").read_text("utf-8") + (STYLES / "reading.css").read_text(
        "utf-8"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}{_colours()}</style><script>{_THEME}</script></head>"
        '<body class="cxr-read"><nav><a href="/?tab=help">CXR PEFT Explorer</a>'
        f"<span>{hint}</span></nav><main>{body}</main></body></html>"
    )


_THEME = """
let theme = null;
try { theme = localStorage.getItem('cxr-theme'); } catch { /* private */ }
document.documentElement.classList.toggle('dark', theme !== 'light');
"""


def _embedded(image: re.Match[str]) -> str:
    """An image as part of the page, so that the server offers no folder."""
    content = (ASSETS / "images" / image[1]).read_bytes()
    return f'src="data:image/png;base64,{base64.b64encode(content).decode()}"'


def _kept(link: re.Match[str]) -> str:
    """A link to a text that is on offer; of any other, its words."""
    target, part, words = link[1], link[2] or "", link[3]
    name = target.rsplit("/", 1)[-1]
    return f'<a href="{name}{part}">{words}</a>' if _path(name) is not None else words


def _mathematics(body: str) -> str:
    """Formulas as MathML, which browsers draw by themselves; code is left as it is."""
    from latex2mathml.converter import convert

    def drawn(formula: re.Match[str]) -> str:
        block = formula[1] is not None
        return convert(
            html.unescape(formula[1] or formula[2]), display="block" if block else "inline"
        )

    parts = re.split(r"(<pre.*?</pre>|<code.*?</code>)", body, flags=re.DOTALL)
    return "".join(part if i % 2 else _MATH.sub(drawn, part) for i, part in enumerate(parts))


def _folded(body: str) -> str:
    """Remove the link marks at headings, which only Jupyter needs."""
    return re.sub(r'<a class="anchor-link"[^>]*>.*?</a>', "", body)


def _colours() -> str:
    """Colours of code, by the theme."""
    places = {"default": "html:not(.dark) .highlight", "github-dark": "html.dark .highlight"}
    return "".join(_style(style, place) for style, place in places.items())


def _style(style: str, place: str) -> str:
    from pygments.formatters import HtmlFormatter

    return str(HtmlFormatter(style=style).get_style_defs(place))  # type: ignore[no-untyped-call]
