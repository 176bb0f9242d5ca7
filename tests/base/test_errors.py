"""The tree of errors: exit statuses, nearest names."""

import pytest

from resnets.base import errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UsageError("x"), 2),
        (errors.MissingExtra("x"), 2),
        (errors.DataError("x"), 2),
        (errors.ModelFileError("x"), 2),
        (errors.RunError("x"), 2),
        (errors.DownloadError("x"), 2),
        (errors.Incomplete("x"), 1),
        (errors.NotFinite("x"), 3),
        (errors.OutOfSpace("x"), 3),
        (errors.OtherProcessFailed("x"), 3),
        (errors.Interrupted("x", signal_number=2), 130),
        (errors.Interrupted("x", signal_number=15), 143),
    ],
)
def test_every_error_has_the_exit_status_of_its_kind(error: errors.ResnetsError, status: int) -> None:
    assert error.exit_status == status
    assert isinstance(error, errors.ResnetsError)
    assert str(error) == "x"


def test_errors_can_be_caught_by_their_standard_kind_too() -> None:
    assert isinstance(errors.UsageError("x"), ValueError)
    assert isinstance(errors.MissingExtra("x"), ImportError)
    assert isinstance(errors.DownloadError("x"), OSError)


def test_an_unknown_name_gets_the_nearest_names_and_how_to_list_all() -> None:
    error = errors.unknown_name("network", "resnet19", ["resnet18", "resnet50", "vgg"], list_all="see `models`")
    assert str(error).startswith("there is no network named 'resnet19'; did you mean resnet18")
    assert "vgg" not in str(error)
    assert str(error).endswith("see `models`")


def test_an_unknown_name_far_from_all_gets_no_suggestion() -> None:
    error = errors.unknown_name("network", "zzz", ["resnet18"], list_all="see `models`")
    assert str(error) == "there is no network named 'zzz'; see `models`"
