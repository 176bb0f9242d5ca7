import pytest

from resnets.base.text import counted, csv_cell, printable, some


@pytest.mark.parametrize("text", ["cat.jpg", "katė.png", "বাংলা", "क्‍ष", "猫 1", "~'\"<b>&"])
def test_ordinary_names_are_shown_as_they_are(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("two\nlines\r", r"two\x0alines\x0d"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("line\u2028end", r"line\u2028end"),
        ("latin\udce9.jpg", r"latin\xe9.jpg"),
        ("\x9b31m", r"\x9b31m"),
        ("\U000e0041tag", r"\U000e0041tag"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_in_a_cell_begins_with_an_apostrophe(text: str) -> None:
    assert csv_cell(text) == "'" + text


def test_other_cells_are_left_alone() -> None:
    assert csv_cell("a=b") == "a=b"
    assert csv_cell("") == ""


def test_a_long_list_of_names_is_shortened_with_a_count() -> None:
    assert some(["a", "b\n"]) == r"'a', 'b\x0a'"
    assert some([str(n) for n in range(7)], 2) == "'0', '1' and 5 more"


def test_one_of_a_thing_has_no_plural() -> None:
    assert [counted(number, "epoch") for number in (0, 1, 2_000)] == ["0 epochs", "1 epoch", "2,000 epochs"]
