"""Notebooks and pages of the documentation, shown by the explorer's server without a network.

A checkout of the project has them; an installed package has none and offers none.
"""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from core.workspace import ASSETS, STYLES
from explorer.page import SECURITY
from explorer.templates import render_macro

ROOT = ASSETS.parent
TEMPLATE = "pages/help/documents.html.j2"
PATH = "/read"
PAGES = (
    "datasets.md", "weights.md", "command-line.md", "gpu.md", "postgresql.md", "export.md",
    "extending.md", "methods.md", "tuning.md", "backbones.md", "saliency.md", "phantoms.md",
    "verdict.md", "transfer.md", "paper.md", "speed.md", "reliability.md", "architecture.md",
    "contributing.md", "security.md",
)  # fmt: skip
"""Pages of ``docs/`` in the order of its table of contents, without overview and reference."""

_LEARN = re.compile(r"\*\*You will learn\*\* (.+?)(?:\n\n|$)", re.DOTALL)
_TAKES = re.compile(r"\*\*It takes\*\* ([^.]+)\.")
_HEADING = re.compile(r"^# (.+)$", re.MULTILINE)
_LINK = re.compile(r'<a href="(?!https?:|#|mailto:)([^"#]*)(#[^"]*)?"[^>]*>(.*?)</a>', re.DOTALL)
_ANCHOR = re.compile(r'<a class="anchor-link"[^>]*>.*?</a>')
"""Links at headings that only Jupyter needs."""
_IMAGE = re.compile(r'src="\.\./assets/images/([\w-]+\.png)"')
_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)


@dataclass(frozen=True)
class Document:
    """A notebook or a page.

    Attributes:
        name: Name of its file.
        title: Its heading.
        about: What it teaches; empty if it does not say so.
        takes: The time that it takes in words; empty if it does not say so.
    """

    name: str
    title: str
    about: str = ""
    takes: str = ""

    @property
    def address(self) -> str:
        """Its address in the explorer's server."""
        return f"{PATH}/{self.name}"


def notebooks() -> list[Document]:
    """The tutorials in their order; none if the package was installed without them."""
    return [_outline(path) for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]


def pages() -> list[Document]:
    """The pages of the documentation; none if the package was installed without them."""
    paths = [ROOT / "docs" / name for name in PAGES]
    return [Document(path.name, _title(_first_cell(path))) for path in paths if path.is_file()]


def route() -> Route:
    """The route of the explorer's server that shows documents."""
    return Route(f"{PATH}/{{name}}", _answer, methods=["GET"])


def document_html(name: str) -> Markup | None:
    """A notebook or page as a whole HTML document; None if the name is unknown."""
    path = _path(name)
    return None if path is None else _document_html(path, path.stat().st_mtime_ns)


async def _answer(request: Request) -> Response:
    html = await run_in_threadpool(document_html, request.path_params["name"])
    if html is None:
        return PlainTextResponse("There is no such page.", status_code=404)
    return HTMLResponse(html, headers=SECURITY)


def _path(name: str) -> Path | None:
    """The file of an offered name; no other file can be requested."""
    if name in PAGES:
        path = ROOT / "docs" / name
        return path if path.is_file() else None
    books = (ROOT / "notebooks").glob("[0-9]*.ipynb")
    return next((path for path in books if path.name == name), None)


def _outline(path: Path) -> Document:
    first = _first_cell(path)
    return Document(path.name, _title(first), _phrase(_LEARN, first), _phrase(_TAKES, first))


def _first_cell(path: Path) -> str:
    """The first cell of a notebook; the whole text of a page."""
    text = path.read_text("utf-8")
    return "".join(json.loads(text)["cells"][0]["source"]) if path.suffix == ".ipynb" else text


def _phrase(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return " ".join(match[1].split()).translate({ord(c): None for c in "*`"}) if match else ""


def _title(text: str) -> str:
    match = _HEADING.search(text)
    return match[1] if match else ""


@lru_cache(maxsize=32)
def _document_html(path: Path, changed: int) -> Markup:
    if path.suffix == ".ipynb":
        from nbconvert import HTMLExporter

        exporter = HTMLExporter(template_name="basic")  # type: ignore[no-untyped-call]
        body, _ = exporter.from_filename(str(path))
    else:
        from nbconvert.filters.markdown import markdown2html

        from explorer.pages.help.stored_results import expand

        body = markdown2html(expand(path.read_text("utf-8")))
        body = _IMAGE.sub(_embedded, body)
    body = _LINK.sub(_offered_link, _mathematics(_ANCHOR.sub("", body)))
    styles = [(STYLES / name).read_text("utf-8") for name in ("explorer.css", "reading.css")]
    return render_macro(
        TEMPLATE,
        "document",
        title=_title(_first_cell(path)) or path.stem,
        notebook=path.name if path.suffix == ".ipynb" else "",
        style=Markup("".join([*styles, _code_colours()])),  # noqa: S704 - the project's own files
        body=Markup(body),  # noqa: S704 - made from the project's own files
    )


def _embedded(image: re.Match[str]) -> str:
    """An image as part of the page, so that the server offers no folder."""
    content = (ASSETS / "images" / image[1]).read_bytes()
    return f'src="data:image/png;base64,{base64.b64encode(content).decode()}"'


def _offered_link(link: re.Match[str]) -> str:
    """A link to an offered document; of a link to anything else only its content."""
    target, part, content = link[1], link[2] or "", link[3]
    name = target.rsplit("/", 1)[-1]
    if _path(name) is None:
        return content
    inner = Markup(content)  # noqa: S704 - part of a page that is already HTML
    return render_macro(TEMPLATE, "link", target=name + part, content=inner)


def _mathematics(body: str) -> str:
    """Replace formulas outside code by MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    def mathml(formula: re.Match[str]) -> str:
        block = formula[1] is not None
        return convert(
            html.unescape(formula[1] or formula[2]), display="block" if block else "inline"
        )

    parts = re.split(r"(<pre.*?</pre>|<code.*?</code>)", body, flags=re.DOTALL)
    return "".join(part if i % 2 else _MATH.sub(mathml, part) for i, part in enumerate(parts))


def _code_colours() -> str:
    """Style sheet for code in the light and the dark theme."""
    from pygments.formatters import HtmlFormatter

    places = {"default": "html:not(.dark) .highlight", "github-dark": "html.dark .highlight"}
    return "".join(
        str(HtmlFormatter(style=style).get_style_defs(place))  # type: ignore[no-untyped-call]
        for style, place in places.items()
    )
