"""Notebooks and pages of the documentation as the explorer shows them."""

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from explorer.pages.help import documents, stored_results
from explorer.pages.help import page as help_page
from tests.support.paths import ROOT


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=[documents.route()]))


def test_every_notebook_has_its_topic_and_duration() -> None:
    books = documents.notebooks()
    assert [book.name[:2] for book in books] == [f"{i:02}" for i in range(1, 9)]
    assert all(book.title and book.about.startswith(("to ", "what ", "how ")) for book in books)
    assert all("of computing" in book.takes for book in books)


@pytest.mark.slow
def test_each_document_loads_nothing_from_another_host(client: TestClient) -> None:
    texts = [*documents.notebooks(), *documents.pages()]
    written = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {text.name for text in documents.pages()} == written - {"index.md"}
    for text in texts:
        answer = client.get(text.address)
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert f"<title>{text.title}" in answer.text.replace("&amp;", "&").replace("&#39;", "'")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?!data:)', answer.text)
        for link in re.findall(r'<a href="([^"#]+)', answer.text):
            inside = not link.startswith(("http", "mailto:", "/"))
            assert not inside or client.get(f"/read/{link}").status_code == 200, (text.name, link)


def test_pages_have_their_numbers_and_images(client: TestClient) -> None:
    shown = client.get("/read/paper.md").text
    assert "{{" not in shown
    assert stored_results.value("verdict-wins") in shown
    assert '<img src="data:image/png;base64,' in shown
    assert "<table" in client.get("/read/transfer.md").text


def test_formulas_become_mathml_except_in_code(client: TestClient) -> None:
    shown = client.get("/read/02_lora_inside.ipynb").text
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in shown
    assert "\\frac" not in shown
    assert "$PATH" in documents._mathematics("<code>echo $PATH $HOME</code>")


@pytest.mark.parametrize("name", ["index.md", "nowhere.ipynb", "mkdocs.yml", "..%2Fpyproject.toml"])
def test_no_other_file_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/read/{name}").status_code == 404


def test_help_lists_all_documents_or_says_why_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = help_page.content()
    for text in [*documents.notebooks(), *documents.pages()]:
        assert text.address in page
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    assert "which is not installed here" in help_page.content()
