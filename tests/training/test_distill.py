"""A teacher's answers beside the labels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import resnets
from resnets.base.errors import DataError, UsageError
from resnets.labels import LABEL, Head
from resnets.preprocess import Preprocess
from resnets.training.config import TrainConfig
from resnets.training.distill import Teacher, distance
from resnets.weights.modelfile import Model

CPU = torch.device("cpu")
PLAIN = torch.autocast("cpu", enabled=False)
RGB = Preprocess(size=(32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
GREY = Preprocess(size=(16, 16), mean=(0.1,), std=(0.5,), channels="grey")


def model(ids: tuple[str, ...], preprocess: Preprocess) -> Model:
    channels = len(preprocess.mean)
    network = resnets.build("resnet20", num_classes=len(ids), in_channels=channels).eval()
    return Model(network=network, heads={LABEL: Head(ids=ids)}, preprocess=preprocess, origin={})


def teacher(given: Model, *, ids: tuple[str, ...], preprocess: Preprocess) -> Teacher:
    heads = {LABEL: Head(ids=ids)}
    return Teacher(given, heads=heads, preprocess=preprocess, device=CPU, autocast=PLAIN)


def test_equal_logits_are_no_distance_apart_and_others_are_by_the_formula() -> None:
    logits, answers = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.0, 1.0, 3.0]])
    assert distance(logits, {LABEL: logits}).item() == pytest.approx(0, abs=1e-7)
    p, q = F.softmax(answers[0] / 4, dim=0), F.softmax(logits[0] / 4, dim=0)
    by_hand = 16 * sum(a * (torch.log(a) - torch.log(b)) for a, b in zip(p, q, strict=True))
    assert distance(logits, {LABEL: answers}).item() == pytest.approx(float(by_hand), rel=1e-5)


def test_the_teachers_answers_come_in_the_order_of_the_students_classes() -> None:
    given = model(("cat", "dog", "owl"), RGB)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        own = given.network(images)
    answers = teacher(given, ids=("owl", "cat"), preprocess=RGB)(images)[LABEL]
    assert torch.allclose(answers, own[:, [2, 0]], atol=1e-5)


def test_the_teacher_sees_the_same_pixels_in_its_own_size_colour_and_normalisation() -> None:
    given = model(("a", "b"), GREY)
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor(RGB.mean)[:, None, None], torch.tensor(RGB.std)[:, None, None]
    answers = teacher(given, ids=("a", "b"), preprocess=RGB)((pixels - mean) / std)[LABEL]
    grey = (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    small = F.interpolate(grey, (16, 16), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = given.network((small - 0.1) / 0.5)
    assert torch.allclose(answers, expected, atol=1e-4)


def test_a_teacher_that_lacks_a_class_is_refused_by_the_classs_name() -> None:
    with pytest.raises(DataError, match="the teacher does not know 'owl'"):
        teacher(model(("cat", "dog"), RGB), ids=("cat", "owl"), preprocess=RGB)


def test_a_run_is_taught_remembers_by_whom_and_goes_on_only_with_the_same_teacher(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (120, 8, 8, 1), dtype=np.uint8), np.arange(120) % 3
    about = {"runs": str(tmp_path), "threads": 1, "epochs": 1, "model": "resnet20"}
    first = resnets.train(pictures, config=TrainConfig(**about, name="teacher"))  # type: ignore[arg-type]
    taught = TrainConfig(**about, name="student", teacher=str(first.model), teacher_weight=0.9)  # type: ignore[arg-type]
    run = resnets.train(pictures, config=taught)
    assert run.load().origin["teacher"]["sha256"]
    plain = resnets.train(pictures, config=TrainConfig(**about, name="plain", seed=1))  # type: ignore[arg-type]
    one, other = run.load().network.state_dict(), plain.load().network.state_dict()
    assert not torch.equal(one["fc.weight"], other["fc.weight"])
    Path(first.model).write_bytes(Path(plain.model).read_bytes())
    with pytest.raises(UsageError, match="is not the teacher"):
        resnets.train(pictures, resume=run.path, config=TrainConfig(epochs=2))


def test_a_teacher_for_rgba_pictures_is_refused_for_others() -> None:
    rgba = Preprocess(size=(32, 32), mean=(0.5,) * 4, std=(0.5,) * 4, channels="rgba")
    with pytest.raises(UsageError, match="the teacher takes rgba pictures, this run rgb"):
        teacher(model(("a", "b"), rgba), ids=("a", "b"), preprocess=RGB)
