"""The example that trains a U-Net: on a tiny folder of two rectangles a picture."""

import json
import re
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import resnets
from examples import segment
from resnets.labels import Head
from resnets.networks import kernels

COLOURS = {0: (200, 40, 40), 1: (40, 200, 40), 2: (40, 40, 200), 3: (0, 0, 0)}  # id 3 is void
PALETTE = [value for colour in COLOURS.values() for value in colour]
HEIGHT, WIDTH = 24, 40
QUICK = ("--encoder", "resnet20", "--void", "3", "--batch", "4", "--lr", "0.003")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pictures of their classes' colours, darker or lighter: ground, and an object on it; a border is void."""
    root = tmp_path / "data"
    for part, count in (("train", 8), ("val", 3)):
        for kind in ("images", "masks"):
            (root / kind / part).mkdir(parents=True)
        for number in range(count):
            ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
            top, left = 2 + number, 3 * number
            ids[top : top + 10, left : left + 14] = 1 + number % 2
            ids[:, -2:] = 3
            noise = np.random.default_rng(number).integers(-30, 30, (HEIGHT, WIDTH, 3))
            pixels = (np.array([*COLOURS.values()])[ids] + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "images" / part / f"{number}.png")
            mask = Image.fromarray(ids)
            mask.putpalette(PALETTE)
            mask.save(root / "masks" / part / f"{number}.png")
    (root / "classes.txt").write_text("ground\nbox\nball\nvoid\n")
    return root


def options(**given: object) -> Namespace:
    usual = {"encoder": "resnet20", "weights": "none", "size": None, "seed": 0}
    return Namespace(**(usual | given))


def test_the_example_learns_and_writes_figures_a_picture_and_a_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert segment.main([str(data), *QUICK, "--epochs", "12", "--out", str(out)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((out / "figures.json").read_text())
    assert (record["n"], record["training_pictures"], record["size"]) == (3, 8, [HEIGHT, WIDTH])
    assert list(record["iou"]) == ["ground", "box", "ball"]
    assert record["mean_iou"] > 0.6  # all ground: 0.28
    low, high = record["mean_iou_interval"]
    assert low <= record["mean_iou"] <= high

    shown = np.asarray(Image.open(out / "predictions.png"))
    side = segment.SHOWN_WIDTH * HEIGHT // WIDTH
    assert shown.shape == (3 * side, 3 * segment.SHOWN_WIDTH, 3)
    truth, answer = shown[:, segment.SHOWN_WIDTH :], shown[:, 2 * segment.SHOWN_WIDTH :]
    assert {tuple(colour) for colour in truth.reshape(-1, 3)} <= set(COLOURS.values())
    assert {tuple(colour) for colour in answer.reshape(-1, 3)} <= {COLOURS[number] for number in range(3)}

    model = resnets.load(out / "model.safetensors", network=resnets.UNet("resnet20", 3))
    assert model.heads["label"].names == ("ground", "box", "ball")
    assert model.preprocess.size == (HEIGHT, WIDTH)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data: Path, tmp_path: Path) -> None:
    for name, seed in (("first", "0"), ("again", "0"), ("other", "1")):
        command = [str(data), *QUICK, "--epochs", "1", "--seed", seed, "--out", str(tmp_path / name)]
        assert segment.main(command) == 0
    first, again, other = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "again", "other")
    )
    assert first == again
    assert first != other


def test_mean_iou_is_over_the_classes_of_the_truth_and_leaves_void_out() -> None:
    truth = torch.tensor([[0, 0, 0, 1], [1, 1, segment.VOID, segment.VOID]])
    predicted = torch.tensor([[0, 0, 1, 1], [1, 2, 0, 2]])
    counts = segment.confusion(truth, predicted, 4)
    assert counts.tolist() == [[2, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    ious = segment.intersections_over_unions(counts)
    np.testing.assert_allclose(ious, [2 / 3, 2 / 4, np.nan, np.nan])
    head = Head(ids=("0", "1", "2", "3"))
    figures = segment.figures_of(counts[None], head)
    assert figures["mean_iou"] == pytest.approx((2 / 3 + 2 / 4) / 2)
    assert figures["pixel_accuracy"] == pytest.approx(4 / 6)
    assert figures["iou"]["2"] is None


def test_picture_and_mask_are_cut_scaled_and_mirrored_alike(data: Path) -> None:
    head, codes = segment.read_classes(data / "classes.txt", 3)
    assert head.ids == ("0", "1", "2")
    (pair, *_) = segment.read_pairs(data, "train", codes)
    colours = np.array([COLOURS[3], *(COLOURS[number] for number in range(3))])
    seen = set()
    for chance in np.random.default_rng(0).random((20, 4)):
        part = segment.augmented(pair, (HEIGHT, WIDTH), chance)
        pixels, mask = np.asarray(part.picture).astype(int), np.asarray(part.mask)
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        nearest = np.abs(pixels[:, :, None] - colours).sum(3).argmin(2)
        assert (nearest == mask).mean() > 0.9  # edges are blended in the picture
        seen.add(mask.tobytes())
    assert len(seen) == 20
    smaller = segment.augmented(
        pair, (HEIGHT, WIDTH), np.array([0.0, 0.0, 0.0, 0.9])
    )  # three quarters, at the left top
    assert (np.asarray(smaller.mask)[HEIGHT * 3 // 4 :] == 0).all()


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (lambda root: (root / "masks/train/2.png").unlink(), "train of .*: 2.png: no mask; mend or remove"),
        (lambda root: (root / "images/val/1.png").unlink(), "val of .*: 1.png: no picture"),
        (
            lambda root: Image.new("L", (7, 5)).save(root / "masks/train/2.png"),
            "2: the picture is 40x24, its mask 7x5",
        ),
        (
            lambda root: Image.new("RGB", (40, 24)).save(root / "masks/train/2.png"),
            "2: the mask must have one byte",
        ),
        (
            lambda root: Image.new("L", (40, 24), 9).save(root / "masks/val/0.png"),
            "0: the mask has the id 9, which",
        ),
        (lambda root: (root / "images/train/5.png").write_text("no picture"), "5: not a picture: text"),
        (lambda root: (root / "masks/train/5.png").write_text("no picture"), "5: cannot identify image file"),
        (
            lambda root: shutil.copy(root / "images/train/5.png", root / "images/train/5.jpg"),
            "5.png and 5.jpg in .* have the same stem",
        ),
        (lambda root: shutil.rmtree(root / "masks/val"), "there is no folder .*val"),
        (lambda root: (root / "classes.txt").unlink(), "classes.txt cannot be read"),
    ],
)
def test_a_pair_that_cannot_be_used_is_named_in_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Callable[[Path], object], named: str
) -> None:
    fault(data)
    assert segment.main([str(data), *QUICK, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert re.search(named, said.err), said.err
    assert not (tmp_path / "out").exists()


def test_folded_batch_norms_are_unfolded_before_training(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = resnets.build("resnet20").eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "folded.safetensors")
    _, codes = segment.read_classes(data / "classes.txt", 3)
    pairs = segment.read_pairs(data, "train", codes)
    encoder = segment.make_encoder(options(weights=tmp_path / "folded.safetensors"), pairs)
    norm = encoder.network.bn1
    assert not torch.equal(norm.running_var, torch.ones(16))
    images = segment.images_of(pairs, encoder.preprocess, "cpu")
    with torch.no_grad():
        before, after = network(images), encoder.network(images)
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
        in_training = encoder.network.train()(images)
    assert (in_training - before).norm() < 0.3 * (network.train()(images) - before).norm()
    assert "receipt" in encoder.origin


def test_every_norm_of_the_network_is_fused_where_the_kernels_run(data: Path) -> None:
    there, why = kernels.available("cpu", torch.float32)
    if not there:
        pytest.skip(why)
    _, codes = segment.read_classes(data / "classes.txt", 3)
    pairs = segment.read_pairs(data, "train", codes)
    encoder = segment.make_encoder(options(encoder="resnet10t", size="45x70"), pairs)  # no multiples of 32
    network = resnets.UNet(encoder.network, 3).to(memory_format=torch.channels_last).train()
    with kernels.using(True):
        logits = network(segment.images_of(pairs[:2], encoder.preprocess, "cpu"))
    seen, waiting = set(), [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    fused = [node for node in seen if node.name() == "_NormActBackward"]
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(fused) == len(norms)
