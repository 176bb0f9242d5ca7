from dataclasses import replace
from pathlib import Path

import pytest

from resnets.base.errors import UsageError
from resnets.training.config import TrainConfig, changed, parse_size, read_config, write_config


def test_a_written_config_reads_back_as_the_resolved_options(tmp_path: Path) -> None:
    asked = TrainConfig(epochs=3, name='a "quoted" name', track=("tensorboard",))
    resolved = TrainConfig(epochs=3, lr=1.0, flip=False, name='a "quoted" name', track=("tensorboard",))
    write_config(tmp_path / "config.toml", data="pictures\u00e9/\x1b", asked=asked, resolved=resolved)
    data, values = read_config(tmp_path / "config.toml")
    assert data == "pictures\u00e9/\x1b"
    assert TrainConfig(**values) == replace(resolved, name=None)  # a repeated run gets a folder of its own
    assert values["lr"] == 1.0
    assert isinstance(values["lr"], float)


@pytest.mark.parametrize(
    ("text", "useful"),
    [
        ("epoch = 3", "no option in .* named 'epoch'; did you mean epochs"),
        ("epochs = 'three'", "epochs must be a whole number, got 'three'"),
        ("flip = 1", "flip must be true or false, got 1"),
        ("optimizer = 'sdg'", "optimizer must be one of: sgd, adam, adamw, muon, got 'sdg'"),
        ("epochs = = 3", "is not TOML"),
    ],
)
def test_a_config_file_with_a_mistake_says_what_and_where(tmp_path: Path, text: str, useful: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=useful):
        read_config(path)


@pytest.mark.parametrize(
    ("options", "useful"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"lr": float("nan")}, "--lr must be above 0, got nan"),
        ({"ema": 1.0}, "--ema must be from 0 to below 1"),
        ({"size": "224x"}, "--size must be N or HxW"),
        ({"name": "../up"}, "--name is one folder name"),
        ({"scale": 0.5, "augment": "pad-crop"}, "--scale belongs to --augment rrc, not to pad-crop"),
        ({"all_train": True, "early_stop": 3}, "--early-stop needs validation pictures"),
        ({"batch": 4, "accumulate": 8}, "cannot divide a batch of 4"),
        ({"decay_at": (0.75, 0.5)}, "--decay-at must be rising shares"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object], useful: str) -> None:
    with pytest.raises(UsageError, match=useful):
        TrainConfig(**options)  # type: ignore[arg-type]


def test_sizes_are_one_number_or_height_by_width() -> None:
    assert parse_size("224") == (224, 224)
    assert parse_size("137x236") == (137, 236)


def test_changed_names_only_what_was_asked_for() -> None:
    assert changed(TrainConfig(epochs=3, decay_factor=0.1)) == {"epochs": 3}


def test_names_that_are_not_utf8_come_back_from_a_config_as_their_bytes(tmp_path: Path) -> None:
    data, runs = "caf\udce9/pictures", "r\udcfc\x1b[31m"
    path = tmp_path / "config.toml"
    write_config(path, data=data, asked=TrainConfig(runs=runs), resolved=TrainConfig(runs=runs, epochs=2))
    found, values = read_config(path)
    assert (found, values["runs"], values["epochs"]) == (data, runs, 2)
    path.write_text("[bytes]\nruns = 'no hexadecimal'\n")
    with pytest.raises(UsageError, match="the table bytes must give names in hexadecimal"):
        read_config(path)
