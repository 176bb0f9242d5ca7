import numpy as np
import pytest

from resnets.base.errors import DataError
from resnets.evaluation.matching import match_heads
from resnets.labels import Head


def test_classes_are_matched_by_id_never_by_position() -> None:
    (match,) = match_heads({"label": Head(ids=("cat", "dog", "ant"))}, {"label": Head(ids=("ant", "cat", "dog"))})
    assert match.positions.tolist() == [2, 0, 1]
    assert match.note == ""


def test_data_with_some_of_the_models_classes_is_matched_and_said_so() -> None:
    model = Head(ids=tuple(f"n{number:08}" for number in range(1000)))
    (match,) = match_heads({"label": model}, {"label": Head(ids=("n00000007", "n00000400"))}, where="birds")
    assert match.positions.tolist() == [7, 400]
    assert match.note == "birds has 2 of the model's 1,000 classes"


def test_data_with_unknown_classes_is_refused_by_name() -> None:
    model, data = Head(ids=("a", "b")), Head(ids=("a", "x\n", "y", "z", "w"))
    words = (
        r"has 4 of 5 classes that the model does not know: 'x\\x0a', 'y', 'z' and 1 more; the model knows 'a', 'b'"
    )
    with pytest.raises(DataError, match=words):
        match_heads({"label": model}, {"label": data})


def test_labels_of_another_kind_are_refused() -> None:
    model, data = Head(kind="multi", ids=("a", "b")), Head(ids=("a", "b"))
    words = "tags has one class a picture in 'label', the model answers several classes a picture"
    with pytest.raises(DataError, match=words):
        match_heads({"label": model}, {"label": data}, where="tags")


def test_data_with_names_for_ids_is_told_the_id() -> None:
    model = Head(ids=("n01440764", "n01443537"), names=("tench", "goldfish"))
    with pytest.raises(DataError, match="matched by id: the id of 'goldfish' is 'n01443537'"):
        match_heads({"label": model}, {"label": Head(ids=("goldfish", "carp"))})


def test_a_model_without_class_names_is_matched_by_position_where_the_counts_agree() -> None:
    model = {"label": Head(ids=("0", "1", "2"))}
    (match,) = match_heads(model, {"label": Head(ids=("x", "y", "z"))}, unnamed=["label"], where="toys")
    assert np.array_equal(match.positions, [0, 1, 2])
    assert match.note == "the model does not name its classes: its 3 are taken in the order of toys's"
    with pytest.raises(DataError, match="3 classes without names, toys has 2"):
        match_heads(model, {"label": Head(ids=("x", "y"))}, unnamed=["label"], where="toys")


def test_several_heads_are_matched_by_name() -> None:
    model = {"root": Head(ids=("1", "2")), "vowel": Head(ids=("a",))}
    data = {"vowel": Head(ids=("a",)), "consonant": Head(ids=("k",))}
    assert [(match.data, match.model) for match in match_heads(model, data)] == [("vowel", "vowel")]
    with pytest.raises(DataError, match="labels for 'consonant', the model answers 'root', 'vowel'"):
        match_heads(model, {"consonant": Head(ids=("k",))})


def test_one_head_answers_another_name() -> None:
    (match,) = match_heads({"label": Head(ids=("1",))}, {"digit": Head(ids=("1",))})
    assert (match.data, match.model) == ("digit", "label")
