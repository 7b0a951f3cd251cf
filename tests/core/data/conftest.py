"""Fixtures of the data sets' tests: small copies of their layouts, each made once."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.data.base import ChestDataset
from core.data.catalogue import open_dataset

_spec = importlib.util.spec_from_file_location("layouts", Path(__file__).parent / "layouts.py")
assert _spec is not None
assert _spec.loader is not None
layouts = importlib.util.module_from_spec(_spec)
sys.modules["layouts"] = layouts  # dataclasses look their module up
_spec.loader.exec_module(layouts)

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
