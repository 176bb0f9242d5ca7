"""What can be asked of data beyond where it is: the columns of a table, and what is held out of training.

This module imports no pyarrow, so that the command line can show its help at once.
"""

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from resnets.base.errors import UsageError
from resnets.base.options import flag_of, from_mapping, option

ASKED, PLACE = "asked", "place"  # keys of what a model's origin says of its data
GROUP = "The data"
OF_TABLES = (
    "image_column",
    "label_column",
    "multi_label",
    "split_column",
    "group_column",
    "root",
    "allow_outside",
)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The columns of a table where they are not to be guessed, and what is held out of training."""

    image_column: str | None = option(None, "tables: the column of paths, or of pictures", group=GROUP)
    label_column: tuple[str, ...] = option(
        (), "tables: a column of classes; repeat it for several, a head each", group=GROUP
    )
    multi_label: tuple[str, ...] = option(
        (),
        "tables: several classes a picture, in COLUMN as a;b, or in NAME=COLUMN,COLUMN as 0 and 1; or none",
        group=GROUP,
    )
    split_column: str | None = option(None, "tables: the column that says train, val or test", group=GROUP)
    group_column: str | None = option(
        None, "tables: rows with the same value here, such as a writer, go to one part", group=GROUP
    )
    root: str | None = option(
        None, "tables: the folder that paths start from; by default the table's", group=GROUP
    )
    allow_outside: bool = option(False, "tables: paths may lead out of the root", group=GROUP)
    holdout_combinations: str | None = option(
        None,
        "several heads: validate on label combinations kept out of training: a CSV file, or a share such as 0.2",
        group=GROUP,
    )

    def __post_init__(self) -> None:
        for name in ("label_column", "multi_label"):
            given = getattr(self, name)
            twice = next((value for value in given if given.count(value) > 1), None)
            if twice is not None:
                raise UsageError(f"{flag_of(name)} {twice} is given twice; keep one of them")
        if self.group_column is not None and self.holdout_combinations is not None:
            raise UsageError(
                "--group-column and --holdout-combinations divide the pictures in two ways; give one of them"
            )

        if self.holdout_combinations is not None:
            share_of(self.holdout_combinations)

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        plain = DataOptions()
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value != getattr(plain, name)}

    def given_of_tables(self) -> list[str]:
        """The flags that were given and that only tables have."""
        return [flag_of(name) for name in self.given() if name in OF_TABLES]


def share_of(text: str) -> float | None:
    """`0.2` as a number; None for what is no number. Raises UsageError for one that is no share."""
    try:
        share = float(text)
    except ValueError:
        return None
    if not 0 < share < 1:
        raise UsageError(f"--holdout-combinations must be a CSV file or a share between 0 and 1, got {text}")
    return share


def options_as_trained(about: Any, place: str) -> DataOptions | None:
    """The options by which a model's own data was read, where `place` is that data.

    about: what the model's origin says of its data. None where it says nothing, or is of other data.
    """
    if not isinstance(about, dict) or about.get(PLACE) != os.path.abspath(place):
        return None
    asked = about.get(ASKED)
    return None if not isinstance(asked, dict) else from_mapping(DataOptions, asked, where="the model's origin")


def data_options(record: Any) -> DataOptions:
    """The options of data in a larger record that has fields of the same names."""
    return DataOptions(**{field.name: getattr(record, field.name) for field in dataclasses.fields(DataOptions)})
