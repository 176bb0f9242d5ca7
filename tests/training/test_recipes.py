"""The defaults by size and number of pictures."""

from resnets.training.recipes import Facts, default_rate, default_weight_decay, recipe


def test_small_pictures_are_trained_by_muon_and_photographs_by_sgd() -> None:
    assert recipe(Facts(pictures=60_000, size=(28, 28)))[0]["optimizer"] == "muon"
    assert recipe(Facts(pictures=60_000, size=(224, 224)))[0]["optimizer"] == "sgd"


def test_rates_of_sgd_and_muon_are_linear_in_the_batch_and_adams_is_not() -> None:
    assert default_rate("sgd", 256) == 2 * default_rate("sgd", 128)
    assert default_rate("muon", 64) == default_rate("muon", 128) / 2
    assert default_rate("adamw", 256) == default_rate("adamw", 32) == 1e-3


def test_a_turn_of_filters_grows_with_the_root_of_the_batch() -> None:
    assert default_rate("muon", 512, fixed_norm=True) == 2 * default_rate("muon", 128, fixed_norm=True)


def test_a_run_that_starts_from_weights_takes_four_tenths_of_the_rate() -> None:
    assert default_rate("sgd", 32, pretrained=True) == 0.4 * default_rate("sgd", 32)


def test_a_batch_is_at_most_an_eighth_of_the_pictures_and_at_least_eight() -> None:
    values, why = recipe(Facts(pictures=244, size=(224, 224)))
    assert values["batch"] == 30
    assert "batch an eighth of 244 pictures" in why
    assert recipe(Facts(pictures=20, size=(8, 8)))[0]["batch"] == 8


def test_every_optimizer_has_a_weight_decay() -> None:
    facts = Facts(pictures=1000, size=(224, 224))
    decays = {kind: default_weight_decay(kind, facts) for kind in ("sgd", "adam", "adamw", "muon")}
    assert decays == {"sgd": 1e-4, "adam": 1e-4, "adamw": 0.05, "muon": 0.01}
    assert default_weight_decay("sgd", Facts(pictures=1000, size=(32, 32))) == 5e-4


def test_many_pictures_of_up_to_32_pixels_get_the_whitened_network_unless_another_is_asked_for() -> None:
    facts = Facts(pictures=50_000, size=(32, 32))
    values, why = recipe(facts)
    assert (values["model"], values["batch"], values["pad"]) == ("resnet11_whitened", 512, 2)
    assert why == "many small pictures"
    assert recipe(facts, whitened=False)[0]["model"] == "resnet20"
    for other in (Facts(pictures=19_999, size=(32, 32)), Facts(pictures=50_000, size=(33, 33))):
        assert recipe(other)[0]["model"] == "resnet20"


def test_presets_change_the_epochs_and_the_size_pictures_begin_at_and_nothing_else() -> None:
    facts = Facts(pictures=60_000, size=(64, 64))
    standard, _ = recipe(facts)
    fast, why = recipe(facts, "fast")
    best, _ = recipe(facts, "best")
    assert [values["epochs"] for values in (fast, standard, best)] == [16, 40, 100]
    assert [values["grow"] for values in (fast, standard, best)] == [0.75, 1, 1]
    assert why == "small pictures, fast"
    assert {name for name in standard if standard[name] != fast[name]} == {"epochs", "grow", "warmup"}
    assert {name for name in standard if standard[name] != best[name]} == {"epochs", "warmup"}
