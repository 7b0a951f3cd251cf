"""The 18 tasks compared with the paper's table."""

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.experiments.paper import tasks


def test_the_grid_is_complete() -> None:
    cells = {(t.backbone, t.data, t.fraction) for t in tasks.TASKS}
    assert len(tasks.TASKS) == len(cells) == 18
    assert len(tasks.MINIATURE) == 9 * len(tasks.EMBEDDED) > 0
    assert len({t.name for t in (*tasks.TASKS, *tasks.MINIATURE)}) == 18 + len(tasks.MINIATURE)
    for task in (*tasks.TASKS, *tasks.MINIATURE):
        assert tasks.find_task(task.name) is task
        for method in tasks.PAPER_METHODS:
            spec = task.spec(method, seed=3)
            assert RunSpec.from_json(spec.to_json()) == spec
            assert spec.adapter.method == method
            assert spec.train.seed == 3


@pytest.mark.parametrize(
    ("name", "optimizer", "lr", "rank", "epochs"),
    [
        ("mrm-nih-1", "sgd", 0.05, 4, 100),
        ("mrm-chexpert-10", "sgd", 0.05, 16, 100),
        ("mrm-rsna-100", "sgd", 0.01, 32, 100),
        ("cxr-mae-nih-1", "adamw", 3e-3 / 4, 4, 400),
        ("cxr-mae-nih-10", "adamw", 1e-3 / 4, 8, 200),
        ("cxr-mae-rsna-10", "adamw", 5e-3 / 4, 8, 100),
    ],
)
def test_recipes_are_the_published_ones(
    name: str, optimizer: str, lr: float, rank: int, epochs: int
) -> None:
    spec = tasks.find_task(name).spec("lora").resolved()
    train = spec.train
    assert (train.optimizer, train.epochs, spec.adapter.rank) == (optimizer, epochs, rank)
    assert train.lr == pytest.approx(lr)
    assert (train.batch_size, train.warmup_epochs, train.min_lr) == (64, 5, 1e-6)
    assert (spec.adapter.alpha, spec.adapter.dropout, spec.adapter.targets) == (32, 0.1, "qv")
    assert train.layer_decay == (0.65 if optimizer == "adamw" else 1)
    assert train.augmentation == ("randaugment" if optimizer == "adamw" else "crop-flip")


def test_the_published_splits_are_taken_where_they_can_be_chosen() -> None:
    splits = {task.data: task.spec().data.split for task in (*tasks.TASKS, *tasks.MINIATURE)}
    assert splits["nih"] == splits["rsna"] == "paper"
    assert splits["phantom-14"] is None


def test_full_fine_tuning_as_published_on_nih_at_one_percent() -> None:
    mrm = tasks.find_task("mrm-nih-1").spec("full").resolved().train
    assert (mrm.optimizer, mrm.lr, mrm.epochs, mrm.weight_decay) == ("sgd", 0.01, 200, 0)
    mae = tasks.find_task("cxr-mae-nih-1").spec("full").resolved().train
    assert (mae.optimizer, mae.epochs, mae.weight_decay) == ("adamw", 400, 0.05)
    assert mae.lr == pytest.approx(5e-4 * 64 / 256)
    assert tasks.find_task("mrm-nih-1").recipes["full"].source == tasks.FULL_PUBLISHED
    assert tasks.find_task("mrm-rsna-1").recipes["full"].source == tasks.FULL_DERIVED


def test_published_figures() -> None:
    known = {
        (t.backbone, t.data, t.fraction): t.published["full"]
        for t in tasks.TASKS
        if t.published["full"] is not None
    }
    assert set(known) == {(t.backbone, t.data, t.fraction) for t in tasks.TASKS[:9]}
    assert [known["mrm", "rsna", f] for f in (0.01, 0.1, 1.0)] == [0.913, 0.927, 0.933]
    lora = [t for t in tasks.TASKS if t.published["lora"] is not None]
    assert [t.name for t in lora] == ["mrm-nih-1"]
    assert lora[0].gain == pytest.approx(0.012)
    assert tasks.find_task("cxr-mae-nih-1").gain is None


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="mrm-nih-1"):
        tasks.find_task("mrm-nih-2")
    with pytest.raises(ConfigurationError, match="lora"):
        tasks.TASKS[0].spec("loraa")


def test_a_recipe_is_found_by_what_a_run_names() -> None:
    task = tasks.task_of("cxr-mae", "nih", 0.1)
    assert task is tasks.find_task("cxr-mae-nih-10")
    for method in tasks.PAPER_METHODS:
        recipe, spec = task.recipe(method), task.spec(method, seed=2)
        assert (recipe.adapter(method), recipe.train(2)) == (spec.adapter, spec.train)
    with pytest.raises(ConfigurationError, match="no recipe for linear") as refused:
        task.recipe("linear")
    assert refused.value.field == "adapter.method"
    for wanted, field in (
        (("embedded-mae", "nih", 0.1), "model.backbone"),
        (("mrm", "phantom-14", 0.1), "data.name"),
        (("mrm", "nih", 0.2), "data.label_fraction"),
    ):
        with pytest.raises(ConfigurationError, match="no task with") as refused:
            tasks.task_of(*wanted)
        assert refused.value.field == field
