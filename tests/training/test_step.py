import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resnets.training.optimizers import make_optimizer
from resnets.training.step import Average, HeadLoss, Part, loss_of, train_step

FP32 = torch.autocast("cpu", dtype=torch.bfloat16, enabled=False)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


def a_part(count: int = 8) -> Part:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, 2, 2, generator=generator)
    return Part(images=images, first={"label": torch.arange(count) % 3})


def step(network: nn.Module, parts: list[Part], optimizer: torch.optim.Optimizer, **options: float) -> float:
    record = train_step(
        network,
        [lambda part=part: part for part in parts],
        optimizer,
        pictures=sum(len(part.images) for part in parts),
        learning_rate=options.get("learning_rate", 0.1),
        label_smoothing=0.0,
        clip=options.get("clip"),
        autocast=FP32,
    )
    return record.loss.item()


def test_one_sgd_step_is_the_weights_minus_rate_times_gradient() -> None:
    network = linear()
    weight = network[1].weight
    part = a_part()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(part.images), part.first["label"]), weight)
    expected = weight.detach() - 0.1 * gradient
    step(network, [part], make_optimizer(network, "sgd", momentum=0.0, weight_decay=0.0))
    assert torch.allclose(weight, expected, atol=1e-7)


def test_parts_of_a_batch_give_the_step_of_the_whole_batch() -> None:
    whole, divided = linear(), linear()
    part = a_part()
    parts = [
        Part(images=part.images[cut], first={"label": part.first["label"][cut]}) for cut in (slice(5), slice(5, 8))
    ]
    first = step(whole, [part], make_optimizer(whole, "sgd", momentum=0.9, weight_decay=0.01))
    second = step(divided, parts, make_optimizer(divided, "sgd", momentum=0.9, weight_decay=0.01))
    assert first == pytest.approx(second, rel=1e-6)
    assert torch.allclose(whole[1].weight, divided[1].weight, atol=1e-7)


def test_clipping_bounds_the_gradient_norm() -> None:
    free, clipped = linear(), linear()
    before = free[1].weight.detach().clone()
    for network, clip in ((free, None), (clipped, 1e-3)):
        optimizer = make_optimizer(network, "sgd", momentum=0.0, weight_decay=0.0)
        step(network, [a_part()], optimizer, learning_rate=1.0, **({} if clip is None else {"clip": clip}))
    moved = torch.cat(
        [(p - q).flatten() for p, q in zip(clipped.parameters(), linear().parameters(), strict=True)]
    )
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert (free[1].weight - before).norm() > 1e-2


def test_norms_and_biases_have_no_weight_decay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    groups = make_optimizer(network, "adamw", momentum=0.9, weight_decay=0.05).param_groups
    assert [(group["weight_decay"], [tuple(p.shape) for p in group["params"]]) for group in groups] == [
        (0.05, [(4, 3, 1, 1), (3, 16)]),
        (0.0, [(4,), (4,), (4,), (3,)]),
    ]


def test_sgd_is_nesterov() -> None:
    assert make_optimizer(linear(), "sgd", momentum=0.9, weight_decay=0.0).param_groups[0]["nesterov"] is True


def test_a_mixed_picture_weighs_the_losses_of_both_labels() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    part = Part(
        images=torch.zeros(2, 3, 1, 1),
        first={"label": torch.tensor([0, 1])},
        second={"label": torch.tensor([1, 1])},
        weight=torch.tensor([0.75, 0.5]),
    )
    right, wrong, sure = (-F.log_softmax(logits, 1)[i, j].item() for i, j in ((0, 0), (0, 1), (1, 1)))
    expected = (0.75 * right + 0.25 * wrong + sure) / 2
    assert loss_of(logits, part, 0.0).item() == pytest.approx(expected, rel=1e-6)


def test_missing_labels_are_left_out_of_the_mean() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    part = Part(images=torch.zeros(4, 3, 1, 1), first={"label": torch.tensor([0, -1, 2, -1])})
    expected = F.cross_entropy(logits[[0, 2]], torch.tensor([0, 2]))
    assert loss_of(logits, part, 0.0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_several_heads_count_equally() -> None:
    logits = {"root": torch.tensor([[1.0, 0.0]]), "vowel": torch.tensor([[0.0, 3.0]])}
    part = Part(images=torch.zeros(1, 3, 1, 1), first={"root": torch.tensor([0]), "vowel": torch.tensor([0])})
    each = [F.cross_entropy(logits[head], torch.tensor([0])).item() for head in ("root", "vowel")]
    assert loss_of(logits, part, 0.0).item() == pytest.approx(sum(each) / 2, rel=1e-6)


def test_heads_count_by_their_weights() -> None:
    logits = {"root": torch.tensor([[1.0, 0.0]]), "vowel": torch.tensor([[0.0, 3.0]])}
    part = Part(images=torch.zeros(1, 3, 1, 1), first={"root": torch.tensor([0]), "vowel": torch.tensor([0])})
    root, vowel = (F.cross_entropy(logits[head], torch.tensor([0])).item() for head in ("root", "vowel"))
    weights = {"root": HeadLoss(weight=2.0), "vowel": HeadLoss(weight=0.5)}
    assert loss_of(logits, part, 0.0, weights).item() == pytest.approx((2 * root + 0.5 * vowel) / 2.5, rel=1e-6)


def test_missing_labels_of_mixed_pictures_count_on_neither_side() -> None:
    logits = {"root": torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]])}
    part = Part(
        images=torch.zeros(3, 3, 1, 1),
        first={"root": torch.tensor([0, -1, 1])},
        second={"root": torch.tensor([-1, 1, -1])},
        weight=torch.tensor([0.75, 0.25, 0.5]),
    )
    logs = -F.log_softmax(logits["root"], 1)
    first = (0.75 * logs[0, 0] + 0.5 * logs[2, 1]) / 2  # the mean over the two that have one
    second = 0.75 * logs[1, 1] / 1
    assert loss_of(logits, part, 0.0).item() == pytest.approx((first + second).item(), rel=1e-6)


def test_a_head_without_any_label_in_the_batch_adds_nothing_and_no_gradient() -> None:
    root = torch.tensor([[1.0, 0.0]], requires_grad=True)
    logits = {"root": root, "vowel": torch.tensor([[0.0, 3.0]], requires_grad=True)}
    part = Part(images=torch.zeros(1, 3, 1, 1), first={"root": torch.tensor([-1]), "vowel": torch.tensor([0])})
    loss = loss_of(logits, part, 0.0)
    loss.backward()
    assert loss.item() == pytest.approx(F.cross_entropy(logits["vowel"], torch.tensor([0])).item() / 2)
    assert root.grad is not None
    assert root.grad.abs().sum() == 0


def test_class_weights_weigh_each_picture_by_its_class() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    target, weights = torch.tensor([0, 2, -1, 2]), torch.tensor([3.0, 1.0, 0.5])
    part = Part(images=torch.zeros(4, 3, 1, 1), first={"label": target})
    each = F.cross_entropy(logits, target.clamp(min=0), reduction="none", label_smoothing=0.1)
    expected = (3 * each[0] + 0.5 * each[1] + 0.5 * each[3]) / 3
    found = loss_of(logits, part, 0.1, {"label": HeadLoss(classes=weights)})
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_several_classes_a_picture_have_binary_cross_entropy_over_the_known_cells() -> None:
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [float("nan"), 1.0], [float("nan"), float("nan")]])
    part = Part(images=torch.zeros(3, 3, 1, 1), first={"tags": target})
    known = ~target.isnan()
    expected = 2 * F.binary_cross_entropy_with_logits(logits[known], target[known])  # two classes
    loss = loss_of({"tags": logits}, part, 0.0)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == known.tolist()


def test_several_classes_a_picture_are_smoothed_weighed_and_mixed() -> None:
    logits = torch.tensor([[1.0, -2.0]])
    part = Part(
        images=torch.zeros(1, 3, 1, 1),
        first={"tags": torch.tensor([[1.0, 0.0]])},
        second={"tags": torch.tensor([[0.0, float("nan")]])},
        weight=torch.tensor([0.75]),
    )
    weights = torch.tensor([[0.5, 3.0], [2.0, 9.0]])  # a class each: (lacks it, has it)

    def each(logit: float, target: float) -> float:
        return F.binary_cross_entropy_with_logits(torch.tensor(logit), torch.tensor(target)).item()

    first = 3.0 * each(1.0, 0.95) + 2.0 * each(-2.0, 0.05)
    second = 2 * 0.5 * each(1.0, 0.05)  # one of two cells is known, and stands for both
    found = loss_of({"tags": logits}, part, 0.1, {"tags": HeadLoss(classes=weights)})
    assert found.item() == pytest.approx(0.75 * first + 0.25 * second, rel=1e-6)


def test_the_average_follows_weights_and_statistics_with_a_rising_decay() -> None:
    network = nn.BatchNorm2d(2)
    average = Average(network, decay=0.5)
    start = copy.deepcopy(average.network)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(10.0)
        network.num_batches_tracked.fill_(7)
    average.update(0)  # decay min(0.5, 1/10) = 0.1: nine tenths of the way
    assert torch.allclose(average.network.weight, start.weight + 0.9 * (3.0 - start.weight))
    assert torch.allclose(average.network.running_mean, torch.full((2,), 9.0))
    assert average.network.num_batches_tracked == 7
    average.update(100)  # decay 0.5
    assert torch.allclose(average.network.running_mean, torch.full((2,), 9.5))
