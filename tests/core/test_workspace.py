from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.workspace import VARIABLE, open_workspace


def test_the_folder_is_made(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "a" / "b")
    assert workspace.run("x").parent.is_dir()


def test_the_variable_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
    assert open_workspace().root == (tmp_path / "named").resolve()


def test_a_file_in_its_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be created"):
        open_workspace(tmp_path / "file")
