"""The dialogue that gives a folder a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.data.datasets import registered
from core.errors import CoreError
from core.workspace import Workspace
from explorer.pages.data import register


def test_what_is_typed_becomes_a_name(workspace: Workspace, own_folder: Path) -> None:
    assert "No name" in register.listing(workspace)
    found = register.register(
        workspace, " ward ", f" {own_folder} ", "", "", " Mass=Lump ", "path", " patient", ""
    )
    assert registered.names(workspace) == [found]
    assert found.as_json() == {
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
def test_a_fault_stands_beside_its_field(
    typed: tuple[str, ...], field: str, workspace: Workspace, own_folder: Path
) -> None:
    words = [one.replace("{}", str(own_folder)) for one in typed]
    with pytest.raises(CoreError) as caught:
        register.register(workspace, *words)
    assert f'data-beside="{field}"' in register.fault(caught.value)
    assert registered.names(workspace) == []
