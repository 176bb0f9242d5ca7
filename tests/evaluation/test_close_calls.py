"""bf16 answers as fp32 does: close calls are made by the exact network, and nothing else is."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from resnets.evaluation.close_calls import ERRORS, LEAST, SAMPLE, Rechecked, backend_for, closeness
from resnets.evaluation.predict import Logits, TorchBackend
from resnets.evaluation.views import with_views
from resnets.labels import Head
from resnets.networks import ResNetSpec, build
from resnets.preprocess import Pixels, Preprocess
from resnets.weights.modelfile import Model

PREPROCESS = Preprocess(size=(16, 16), crop=1.0)


def a_model(*, classes: int = 10, kind: str = "single") -> Model:
    torch.manual_seed(0)
    spec = ResNetSpec(
        block="basic", depths=(1, 1), width=16, stem="small", heads=(("label", classes),), zero_last=False
    )
    head = Head(kind=kind, ids=tuple(map(str, range(classes))))  # type: ignore[arg-type]
    return Model(network=build(spec), heads={"label": head}, preprocess=PREPROCESS)


def noise(count: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


class Table:
    """Answers picture number i, whose pixels are all i, with line i; knows what it was asked."""

    def __init__(self, lines: npt.ArrayLike) -> None:
        self.lines = np.array(lines, dtype=np.float32)
        self.asked: list[list[int]] = []

    def logits(self, pictures: Pixels) -> Logits:
        numbers = pictures[:, 0, 0, 0]
        self.asked.append(numbers.tolist())
        return {"label": self.lines[numbers]}


def numbered(count: int) -> Pixels:
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 2, 2, 3))


def test_a_call_is_as_close_as_the_second_logit_to_the_first() -> None:
    logits = np.array([[1, 5, 4.5], [3, -2, 1]], dtype=np.float32)
    assert closeness(logits, Head(ids=("a", "b", "c"))).tolist() == [0.5, 2]
    assert closeness(logits, None).tolist() == [0.5, 2]
    assert closeness(logits[:, :1], Head(ids=("a",))).tolist() == [np.inf, np.inf]  # there is nothing to choose


def test_several_classes_a_picture_are_as_close_as_the_nearest_is_to_its_threshold() -> None:
    logits = np.array([[0.25, 5], [4, 1]], dtype=np.float32)
    halves = Head(kind="multi", ids=("a", "b"))
    assert closeness(logits, halves) == pytest.approx([0.25, 1])
    chosen = Head(kind="multi", ids=("a", "b"), thresholds=(0.5, 1 / (1 + np.exp(-4))))  # at a logit of 4
    assert closeness(logits, chosen) == pytest.approx([0.25, 3])
    always = Head(kind="multi", ids=("a", "b"), thresholds=(0.0, 1.0))
    assert closeness(logits, always).tolist() == [np.inf, np.inf]


def test_close_calls_are_asked_again_and_all_others_stay_as_they_are() -> None:
    rough = np.zeros((6, 2))
    rough[:, 0] = [9, 0.01, 8, 0.3, -0.02, 7]
    exact = rough + 0.05 * np.array([1, -1])  # an error of 0.05 a logit: within 0.5 a call is close
    assert ERRORS * 0.05 == 0.5
    fast, slow = Table(rough), Table(exact)
    found = Rechecked(fast, slow, {"label": Head(ids=("a", "b"))}).logits(numbered(6))["label"]
    assert slow.asked == [[1, 4], [3]]  # the two closest, which show the error, and then what is close by it
    expected = rough.copy()
    expected[[1, 3, 4]] = exact[[1, 3, 4]]
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    np.testing.assert_array_equal(fast.lines, rough.astype(np.float32))  # not written to


def test_one_picture_in_32_is_asked_again_where_no_call_is_close() -> None:
    lines = np.stack([9 + np.arange(100) / 100, np.zeros(100)], axis=1)
    slow = Table(lines)
    Rechecked(Table(lines), slow, {"label": Head(ids=("a", "b"))}).logits(numbered(100))
    assert [len(asked) for asked in slow.asked] == [4]
    assert (SAMPLE, LEAST) == (32, 2)


def test_equal_pictures_of_a_batch_get_equal_answers() -> None:
    rough = np.tile([1.0, 0.0], (40, 1))
    rough[20:] = [9.0, 0.0]
    slow = Table(rough + 0.25)
    found = Rechecked(Table(rough), slow, {"label": Head(ids=("a", "b"))}).logits(numbered(40))["label"]
    assert slow.asked == [list(range(20))]  # two would do, if others were not as close
    assert len(np.unique(found[:20], axis=0)) == len(np.unique(found[20:], axis=0)) == 1


def test_a_head_of_one_class_has_nothing_to_ask() -> None:
    slow = Table(np.zeros((5, 1)))
    Rechecked(Table(np.ones((5, 1))), slow, {"label": Head(ids=("a",))}).logits(numbered(5))
    assert slow.asked == []


def test_answers_do_not_depend_on_the_batches_before() -> None:
    pictures = noise(48)
    alone = backend_for(a_model(), device="cpu", precision="bf16", views="one")
    after = backend_for(a_model(), device="cpu", precision="bf16", views="one")
    after.logits(noise(20))
    np.testing.assert_array_equal(alone.logits(pictures)["label"], after.logits(pictures)["label"])


@pytest.mark.parametrize(("views", "count"), [("one", 512), ("flip-shift", 4096)])
def test_where_bf16_alone_answers_otherwise_than_fp32_it_does_not_with_close_calls_in_fp32(
    views: str, count: int
) -> None:
    model, pictures = a_model(), noise(count)  # noise, and a network that knows nothing: many close calls
    exact = backend_for(model, device="cpu", precision="fp32", views=views)  # type: ignore[arg-type]
    checked = backend_for(model, device="cpu", precision="bf16", views=views)  # type: ignore[arg-type]
    right = exact.logits(pictures)["label"].argmax(axis=1)
    alone = with_views(TorchBackend(model, precision="bf16"), views)  # type: ignore[arg-type]
    rough = alone.logits(pictures)["label"].argmax(axis=1)
    assert (rough != right).any()
    found = checked.logits(pictures)["label"]
    assert (found.argmax(axis=1) == right).all()
    assert (found != exact.logits(pictures)["label"]).any(axis=1).mean() > 0.3  # and most are still bf16's


def test_classes_that_a_picture_has_are_those_of_fp32() -> None:
    model, pictures = a_model(classes=3, kind="multi"), noise(256)
    exact = TorchBackend(model).logits(pictures)["label"]
    middle = np.median(exact, axis=0)  # half of the pictures are above, many by very little
    thresholds = tuple((1 / (1 + np.exp(-middle.astype(np.float64)))).tolist())
    model.heads["label"] = Head(kind="multi", ids=model.heads["label"].ids, thresholds=thresholds)
    rough = TorchBackend(model, precision="bf16").logits(pictures)["label"]
    assert ((rough > middle) != (exact > middle)).any()
    found = backend_for(model, device="cpu", precision="bf16", views="one").logits(pictures)["label"]
    assert ((found > middle) == (exact > middle)).all()


def test_a_call_that_is_no_number_is_made_again() -> None:
    rough, exact = np.tile([9.0, 0.0], (64, 1)), np.tile([8.0, 0.0], (64, 1))
    rough[0] = np.nan
    rough[1] = [0.1, 0]
    slow = Table(exact)
    rechecked = Rechecked(Table(np.where(np.isnan(rough), -np.inf, rough)), slow, {"label": Head(ids=("a", "b"))})
    with np.errstate(invalid="ignore"):
        found = rechecked.logits(numbered(64))["label"]
    np.testing.assert_array_equal(found, exact.astype(np.float32))


def test_two_pictures_or_one_are_asked_in_fp32_alone() -> None:
    lines = np.tile([9.0, 0.0], (2, 1))
    fast, slow = Table(lines), Table(lines)
    Rechecked(fast, slow, {"label": Head(ids=("a", "b"))}).logits(numbered(2))
    assert (fast.asked, slow.asked) == ([], [[0, 1]])


def test_fp32_is_asked_once() -> None:
    assert isinstance(backend_for(a_model(), device="cpu", precision="fp32", views="one"), TorchBackend)
