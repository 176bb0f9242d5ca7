"""Several processes that train one network: what they tell each other, and the sum of what each one's part gave.

Each process has a copy of the network and takes its part of every batch. Gradients are summed before the update,
so that every copy stays the same to the last bit: the first process can write the files for all.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm

from resnets.base.errors import OtherProcessFailed, UsageError, is_out_of_memory
from resnets.base.machine import pick_device
from resnets.base.text import counted, printable
from resnets.base.world import World, restarts, world
from resnets.data.dataset import Data, reopen
from resnets.training.config import TrainConfig
from resnets.training.step import cuts

T = TypeVar("T")

TIMEOUT = timedelta(hours=2)  # a process that neither answers nor ends for so long is given up
BUCKET_BYTES = 25 << 20  # of gradients that are sent at a time, as torch's DDP has it
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Group:
    """The processes of one run. One that is alone asks nobody.

    Whatever tells or asks the others must be called by all of them, in the same order.
    """

    world: World = field(default_factory=World)

    @property
    def alone(self) -> bool:
        return self.world.size == 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.world.leads

    def device(self, planned: str) -> torch.device:
        """Where this process computes: of several on GPUs, each has its own (see `process_group`)."""
        return torch.device(planned if self.alone else planned.partition(":")[0])

    def part(self, pictures: int) -> slice:
        """What this process takes of a batch: nothing of one too small for all."""
        parts = cuts(pictures, self.world.size)
        return parts[self.world.rank] if self.world.rank < len(parts) else slice(0, 0)

    def share(self, pictures: int) -> slice:
        """What this process takes of pictures that are measured one by one."""
        rank, size = self.world.rank, self.world.size
        return slice(pictures * rank // size, pictures * (rank + 1) // size)

    def lead(self, work: Callable[[], T]) -> T:
        """What the first process makes, in all of them."""
        if self.alone:
            return work()
        made: list[Any] = [work() if self.leads else None]
        with _talking():
            dist.broadcast_object_list(made, src=0, device=CPU)
        result: T = made[0]
        return result

    def total(self, *numbers: int) -> list[int]:
        """Each number summed over the processes."""
        return self._reduced(numbers, dist.ReduceOp.SUM)

    def highest(self, number: int) -> int:
        """The highest number that a process has."""
        return self._reduced((number,), dist.ReduceOp.MAX)[0]

    def _reduced(self, numbers: tuple[int, ...], operation: Any) -> list[int]:
        if self.alone:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.int64)
        with _talking():
            dist.all_reduce(values, op=operation)
        return [int(value) for value in values.tolist()]

    def merged(self, values: dict[int, str]) -> dict[int, str]:
        """The entries of all processes, in their order."""
        if self.alone:
            return values
        found: list[Any] = [None] * self.world.size
        with _talking():
            dist.all_gather_object(found, values)
        return {key: value for one in found for key, value in one.items()}

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, in their order, in the first one; elsewhere this one's alone."""
        if self.alone:
            return [value]
        found: list[Any] | None = [None] * self.world.size if self.leads else None
        with _talking():
            dist.gather_object(value, found, dst=0)
        return [value] if found is None else found

    def same(self, network: nn.Module) -> None:
        """Give every process's copy the weights and buffers of the first."""
        if not self.alone:
            for tensor in [*network.parameters(), *network.buffers()]:
                values = tensor.detach().contiguous()
                with _talking():
                    dist.broadcast(values, src=0)
                tensor.detach().copy_(values)

    def ready(self, network: nn.Module, device: torch.device, *, sync_norm: bool) -> nn.Module:
        """A network to train: on this process's device, channels last, with the first process's weights.

        sync_norm: batch norm is taken over what all processes have of a batch.
        """
        if sync_norm and not self.alone:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.same(network)
        return network

    @contextlib.contextmanager
    def locally_first(self) -> Iterator[None]:
        """The block runs in the first process of each machine, then in the others: what it caches is made once."""
        if self.world.local_rank > 0:
            self.total(0)
        yield
        if self.world.local_rank == 0:
            self.total(0)


@contextlib.contextmanager
def process_group(device: str | None) -> Iterator[Group]:
    """The group of the processes that were started together, gloo between processors and NCCL between GPUs.

    device: what was asked for. Raises UsageError where it cannot serve several processes.
    """
    here = world()
    if here.size == 1:
        yield Group(world=here)
        return
    gpus = _own_gpu(pick_device(device), here)
    if dist.is_initialized():
        raise UsageError("torch.distributed is in use in this process already; let resnets.train start it")
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=TIMEOUT)))
        # torchrun keeps its store when it starts again: what the dead ones left there must not be taken for ours
        store = dist.PrefixStore(f"start-{restarts()}", store)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    except ValueError as error:
        raise UsageError(f"{error}; start several processes with torchrun") from error
    ended = False
    try:
        yield Group(world=here)
        ended = True
    finally:
        if ended or not gpus:  # NCCL would wait for processes that have failed; the end of this one lets it go
            dist.destroy_process_group()


def _own_gpu(device: str, here: World) -> bool:
    """Whether the processes work on GPUs; this one's then is the present device."""
    kind, _, number = device.partition(":")
    if kind == "mps":
        raise UsageError("--device mps serves one process; give --device cpu, or go without torchrun")
    if kind != "cuda":
        return False
    there = torch.cuda.device_count()
    if number:
        raise UsageError(f"--device {device}: each process takes a GPU of its own; give --device cuda")
    if here.local_size > there:
        raise UsageError(
            f"this machine has {counted(there, 'GPU')} for {here.local_size} processes; give torchrun "
            f"--nproc-per-node {there}"
        )
    torch.cuda.set_device(here.local_rank)
    return True


def refuse_impossible(config: TrainConfig) -> None:
    """Raise UsageError for what this device cannot do."""
    if config.sync_norm and not pick_device(config.device).startswith("cuda"):
        raise UsageError("--sync-norm is for NVIDIA GPUs: torch has none such for processors; leave it out")


def shared_data(group: Group, opened: Callable[[], Data]) -> Data:
    """The data, looked at by the first process alone; the others take its manifest's word.

    opened: opens it; data in memory is opened by every process.
    """
    own = opened() if group.leads else None
    if group.alone and own is not None:
        return own
    manifest = group.lead(lambda: None if own is None else own.manifest)
    with group.locally_first():  # a download is made once on each machine
        if own is None:
            own = opened() if manifest is None or manifest.address is None else reopen(manifest)
    return own


class Exchange:
    """Sums what the processes' parts of a batch gave: gradients, batch norm's running statistics, the loss.

    Gradients go in buckets, those of the last layers first, each as soon as a backward pass has made it, so that
    sending hides behind the rest of the pass. Running statistics become the mean over the processes, each weighted
    by its pictures. After `finish` all of it is the same in every process.
    """

    def __init__(self, network: nn.Module) -> None:
        self._parameters = [*network.parameters()][::-1]
        self._norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        self._device = self._parameters[0].device
        self._hooked: set[torch.Tensor] = set()
        self._bucket_of: dict[torch.Tensor, int] = {}
        self._buckets: list[list[nn.Parameter]] = []
        self._missing: list[int] = []  # a bucket: gradients that the last pass has yet to make; empty before it
        self._sent: list[tuple[torch.Tensor, Any]] = []

    def begin(self) -> None:
        """The backward pass that comes is this process's last before the update."""
        self._arrange()
        self._missing = [len(bucket) for bucket in self._buckets]

    def _arrange(self) -> None:
        """Buckets of what is trained now: parts of a network may be frozen at first."""
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        if len(trained) == len(self._bucket_of) and all(one in self._bucket_of for one in trained):
            return
        self._buckets = _buckets(trained)
        self._bucket_of = {one: number for number, bucket in enumerate(self._buckets) for one in bucket}
        for parameter in self._bucket_of.keys() - self._hooked:
            parameter.register_post_accumulate_grad_hook(self._made)  # type: ignore[no-untyped-call]
            self._hooked.add(parameter)

    def _made(self, parameter: torch.Tensor) -> None:
        number = self._bucket_of.get(parameter)
        if not self._missing or number is None:
            return
        self._missing[number] -= 1
        while len(self._sent) < len(self._buckets) and self._missing[len(self._sent)] == 0:
            self._send()

    def _send(self) -> None:
        """The next bucket: all processes send them in the same order. What got no gradient counts as zero."""
        bucket = self._buckets[len(self._sent)]
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in bucket]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with _talking():
            self._sent.append((flat, dist.all_reduce(flat, async_op=True)))

    @torch.no_grad()
    def finish(self, loss: torch.Tensor | None, *, share: float) -> torch.Tensor:
        """The batch's loss; the gradients are the batch's from here on.

        loss: this process's part of it, None where it had no pictures. share: its part of the batch's pictures.
        """
        self._arrange()
        while len(self._sent) < len(self._buckets):
            self._send()
        kept = [one for norm in self._norms if norm.training for one in (norm.running_mean, norm.running_var)]
        statistics = [one for one in kept if one is not None]
        part = torch.zeros((), device=self._device) if loss is None else loss
        rest = torch.cat([*(statistic * share for statistic in statistics), part.reshape(1)])
        with _talking():
            dist.all_reduce(rest)
            for _, work in self._sent:
                work.wait()
        for bucket, (flat, _) in zip(self._buckets, self._sent, strict=True):
            sums = torch.split(flat, [parameter.numel() for parameter in bucket])
            for parameter, values in zip(bucket, sums, strict=True):
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
                parameter.grad.copy_(values.view(parameter.shape))
        means = torch.split(rest[:-1], [len(statistic) for statistic in statistics])
        for statistic, mean in zip(statistics, means, strict=True):
            statistic.copy_(mean)
        self._missing, self._sent = [], []
        return rest[-1]


def _buckets(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """In their order; a bucket ends once it is full."""
    buckets: list[list[nn.Parameter]] = []
    held = BUCKET_BYTES
    for parameter in parameters:
        if held >= BUCKET_BYTES:
            buckets.append([])
            held = 0
        buckets[-1].append(parameter)
        held += parameter.numel() * parameter.element_size()
    return buckets


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """A connection that breaks is another process's failure."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason, _, _ = str(error).partition("\n")
        why = f" ({printable(reason)})" if isinstance(error, dist.DistBackendError) else ""  # NCCL's own failures
        raise OtherProcessFailed(
            f"another process of this run has ended or cannot be reached{why}, and says why itself; the last "
            "checkpoint is kept: resume the run once that is mended"
        ) from error
