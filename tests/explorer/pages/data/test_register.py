"""The form that registers a folder under a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.data.datasets import registered
from core.errors import CoreError
from core.workspace import Workspace
from explorer.pages.data import register


def test_the_fields_register_a_name(workspace: Workspace, own_folder: Path) -> None:
    assert "No name" in register.listing(workspace)
    named = register.register(
        workspace, " ward ", f" {own_folder} ", "", "", " Mass=Lump ", "path", " patient", ""
    )
    assert registered.names(workspace) == [named]
    assert named.as_json() == {
        "name": "ward", "data": "folder", "root": str(own_folder),
        "columns": "path=path,patient=patient", "labels": "Mass=Lump",
    }  # fmt: skip
    html = register.listing(workspace)
    assert 'data-name="ward"' in html
    assert "labels Mass=Lump" in html


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        (("", "{}", "", "", "", "", "", ""), "named-name"),
        (("../x", "{}", "", "", "", "", "", ""), "named-name"),
        (("ward", " ", "", "", "", "", "", ""), "named-root"),
        (("ward", "{}/no", "", "", "", "", "", ""), "named-root"),
        (("ward", "{}", "(", "", "", "", "", ""), "named-patient"),
        (("ward", "{}", "", "x.csv", "", "", "", ""), "named-table"),
        (("ward", "{}", "", "", "Gout", "", "", ""), "named-labels"),
        (("ward", "{}", "", "", "", "Bild", "", ""), "named-path"),
        (("ward", "{}", "", "", "", "", "a=b,c", ""), "named-path"),
    ],
)
def test_an_error_is_shown_under_its_field(
    typed: tuple[str, ...], field: str, workspace: Workspace, own_folder: Path
) -> None:
    values = [text.replace("{}", str(own_folder)) for text in typed]
    with pytest.raises(CoreError) as caught:
        register.register(workspace, *values)
    assert f'data-beside="{field}"' in register.field_error(caught.value)
    assert registered.names(workspace) == []
