"""Search spaces of the methods, and the runs that their values describe."""

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.experiments.tune import space
from core.experiments.tune.space import Setting
from core.models.tuning.registry import TUNING_METHODS

TUNED = [name for name, method in TUNING_METHODS.items() if method.searches]
SMALL = RunSpec.of(**{"model.backbone": "timm:test_vit", "model.pretrained": False})


def named(settings: tuple[Setting, ...]) -> dict[str, Setting]:
    return {setting.name: setting for setting in settings}


@pytest.mark.parametrize("method", TUNED)
def test_each_space_has_the_rate_and_contains_the_defaults(method: str) -> None:
    for name, search in TUNING_METHODS[method].searches.items():
        assert search.source, name
        assert bool(search.choices) != (search.low < search.high), name
    settings = named(space.space_of(SMALL, method, ("all",)))
    rate = settings["lr"]
    assert rate.log
    assert rate.low < rate.default < rate.high <= 10
    for setting in settings.values():
        assert setting.default in setting.choices or setting.low <= setting.default <= setting.high
    spec, listed = space.method_spec(SMALL, method), tuple(settings.values())
    assert space.apply(spec, listed, space.defaults(listed)) == spec


def test_the_rate_follows_backbone_method_and_optimizer() -> None:
    def rate(method: str, **fields: object) -> Setting:
        return named(space.space_of(RunSpec.of(**fields), method))["lr"]

    published = {"model.backbone": "timm:test_vit", "model.pretrained": False}
    assert rate("lora").low == pytest.approx(0.0002)
    assert rate("lora").high == pytest.approx(0.04)
    assert rate("lora", **published).default == pytest.approx(3e-3 * 16 / 256)
    assert rate("lora", **published).high == pytest.approx(3e-3 * 16 / 256 * 20)
    assert rate("full", **published).high == pytest.approx(5e-4 * 16 / 256 * 10)
    assert rate("lora", **{"train.optimizer": "sgd", **published}).default == 0.0125


def test_settings_that_are_given_are_not_tuned() -> None:
    names = ("lr", "alpha_over_rank", "rank")
    assert set(named(space.space_of(SMALL, "lora", names))) == set(names)
    given = ("train.lr", "adapter.alpha")
    assert set(named(space.space_of(SMALL, "lora", names, given))) == {"rank"}
    with pytest.raises(ConfigurationError, match=r"Linear probe has no free setting.*lr is given"):
        space.space_of(RunSpec(), "linear", names, ("train.lr",))
    with pytest.raises(ConfigurationError, match="no free setting"):
        space.space_of(RunSpec(), "linear", ("rank",))
    with pytest.raises(ConfigurationError, match="Unknown setting to search “ranks”"):
        space.space_of(RunSpec(), "lora", ("ranks",))


def test_values_that_do_not_fit_the_backbone_are_left_out() -> None:
    network = RunSpec.of(
        **{"model.backbone": "timm:test_resnet", "model.pretrained": False,
           "adapter.targets": "all"}
    )  # fmt: skip
    assert set(named(space.space_of(network, "lora", ("rank", "targets")))) == {"rank"}
    with pytest.raises(ConfigurationError, match="Only one value of targets fits LoRA"):
        space.space_of(network, "lora", ("targets",))
    with pytest.raises(ConfigurationError):
        space.space_of(RunSpec.of(**{"model.backbone": "timm:test_resnet"}), "vpt")


def test_values_of_a_trial_become_its_run() -> None:
    settings = space.space_of(SMALL, "lora", ("all",))
    values = space.defaults(settings)
    changed = space.apply(SMALL, settings, values | {"rank": 16, "lr": 0.0123456})
    assert (changed.adapter.rank, changed.adapter.alpha) == (16, 128.0)  # alpha / rank is kept
    assert changed.train.lr == 0.0123
    halved = space.apply(SMALL, settings, values | {"rank": 16, "alpha_over_rank": 1.0})
    assert halved.adapter.alpha == 16.0
    assert (
        space.written({"lr": 0.0123456, "alpha_over_rank": 2.0}) == "lr 0.0123, alpha over rank 2"
    )
    epochs = space.space_of(SMALL, "adalora", ("epochs",))
    longer = space.apply(space.method_spec(SMALL, "adalora"), epochs, {"epochs": 12})
    assert longer.train.epochs == 12


def test_only_finite_spaces_have_all_combinations() -> None:
    assert space.combinations(space.space_of(SMALL, "lora")) is None
    finite = space.combinations(space.space_of(SMALL, "lora", ("rank", "targets")))
    assert finite is not None
    assert len(finite) == 15
    assert finite[0] == {"rank": 4, "targets": "qv"}
