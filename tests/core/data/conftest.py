"""Fixtures of the data sets' tests: small copies of their layouts, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.data.base import ChestDataset
from core.data.datasets.registry import open_dataset
from tests.support import layouts

Opened = tuple[Any, ChestDataset]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Writes a layout by name, once; tests must not change it."""
    known: dict[str, Any] = {}

    def make(name: str) -> Any:
        if name not in known:
            known[name] = layouts.LAYOUTS[name](tmp_path_factory.mktemp(name) / "root")
        return known[name]

    return make


@pytest.fixture(scope="session", params=list(layouts.LAYOUTS))
def opened(request: pytest.FixtureRequest, made: Callable[[str], Any]) -> Opened:
    """Every layout in turn, with the data set opened on it."""
    layout = made(request.param)
    return layout, open_dataset(layout.name, layout.root, layout.split, **layout.options)


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[str], Any]:
    """Writes a layout by name that the test may damage."""
    return lambda name: layouts.LAYOUTS[name](tmp_path / "fresh")
