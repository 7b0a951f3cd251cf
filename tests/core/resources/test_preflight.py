"""Checks of a run before it is created."""

from pathlib import Path

import pytest

from core.errors import ConfigurationError, CoreError, DataError, ModelError
from core.resources import preflight


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"data__name": "nhi"}, ConfigurationError, "data.name"),
        ({"data__root": None}, DataError, "data.root"),
        ({"data__root": Path("/nowhere")}, DataError, "data.root"),
        ({"data__split": "official"}, DataError, "data.split"),
        ({"model__backbone": "mrn"}, ConfigurationError, "model.backbone"),
        (
            {"model__backbone": "ark", "model__pretrained": True, "model__input_size": None},
            ModelError,
            "model.weights",
        ),
        ({"model__input_size": 70}, ConfigurationError, "model.input_size"),
        ({"model__weights": Path("/nowhere.pth")}, ModelError, "model.weights"),
        ({"adapter__method": "lore"}, ConfigurationError, "adapter.method"),
        ({"adapter__rank": 512}, ConfigurationError, "adapter.rank"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_cannot_work_is_refused(
    tiny, changes: dict[str, object], kind: type[CoreError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        preflight.check(tiny(**changes))
    assert caught.value.field == field
    assert caught.value.remedy


def test_a_method_without_backbone_needs_no_weights(tiny) -> None:
    missing = {"model__backbone": "ark", "model__pretrained": True, "model__input_size": None}
    preflight.check(tiny(adapter__method="pixels", **missing))
    with pytest.raises(ModelError):
        preflight.check(tiny(adapter__method="knn", **missing))


def test_what_can_work_is_not_refused(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.pth").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = tiny(model__weights=Path("~/own.pth"))
    preflight.check(spec)
    (tmp_path / "own.pth").unlink()
    with pytest.raises(CoreError, match=r"own\.pth"):
        preflight.check(spec)
