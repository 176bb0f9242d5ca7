"""Which of several processes this one is, as torchrun and Slurm's launchers say it."""

import os
from dataclasses import dataclass

from resnets.base.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class World:
    """rank: of all processes, from 0. size: how many there are. local_rank, local_size: those of this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0


def restarts() -> int:
    """How often torchrun has started these processes again after one of them failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def world() -> World:
    """From RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE of the environment; one process without them."""
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return World()
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local, locally = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    except ValueError as error:
        raise UsageError(f"RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers: {error}") from error
    if not 0 <= rank < size:
        raise UsageError(f"RANK must be from 0 to WORLD_SIZE - 1, got RANK={rank} and WORLD_SIZE={size}")
    return World(rank=rank, size=size, local_rank=local, local_size=locally)
