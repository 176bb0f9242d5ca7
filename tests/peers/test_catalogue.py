"""The catalogue of weights beside the packages it is read from."""

import csv
import re
from importlib import resources

from resnets.networks import VARIANTS
from resnets.weights.catalogue import COLUMNS, catalogue, for_any_use, of_hash
from tests.peers import catalogue as peers


def stored() -> dict[str, dict[str, str]]:
    text = resources.files("resnets.weights").joinpath("catalogue.csv").read_text("utf-8")
    return {row.pop("name"): row for row in csv.DictReader(text.splitlines())}


def test_every_row_is_what_torchvision_and_timm_state() -> None:
    ours, theirs = stored(), peers.published()
    assert list(ours) == list(catalogue())
    assert set(ours) == set(theirs)
    for name, row in theirs.items():
        kept = {
            column: ours[name][column] for column in COLUMNS[1:] if row[column] or column not in ("top1", "top5")
        }
        assert kept == {column: row[column] for column in kept}, name


def test_every_weights_enum_of_torchvision_for_networks_of_ours_is_there() -> None:
    models = peers.torchvision().models
    count = sum(len(models.get_model_weights(name)) for name in VARIANTS if name in models.list_models())
    assert sum(".tv" in name for name in catalogue()) == count


def test_hashes_are_eight_digits_and_no_two_files_share_one() -> None:
    digits = [row.file.sha256 for row in catalogue().values() if row.file.sha256]
    assert all(re.fullmatch(r"[0-9a-f]{8}", each) for each in digits)
    assert len(set(digits)) == len(digits)


def test_the_first_weights_of_resnet50_for_any_use_are_the_best_of_those() -> None:
    chosen = for_any_use("resnet50")[0]
    assert (chosen.name, chosen.top1, chosen.commercial) == ("resnet50.a1_in1k", 81.24, True)


def test_a_file_is_known_by_its_hash_whatever_its_name() -> None:
    known = of_hash("11ad3fa6" + 56 * "0")
    assert known is not None
    assert (known.name, known.licence, known.top1) == ("resnet50.tv2_in1k", "bsd-3-clause", 80.858)
    assert known.preprocess.size == (224, 224)
    assert round(224 / known.preprocess.crop) == 232
    assert of_hash(64 * "f") is None


def test_eleven_rows_are_for_non_commercial_use_alone_and_say_so() -> None:
    theirs = [row for row in catalogue().values() if not row.commercial]
    assert len(theirs) == 11
    assert {row.licence for row in theirs} == {"cc-by-nc-4.0 (non-commercial)"}
