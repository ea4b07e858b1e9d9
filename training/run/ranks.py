"""The processes of one training run: this one alone, or those that torchrun started, on one machine or many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Say which process this is, of how many, and on which device it computes."""

    rank: int
    num_ranks: int
    device: torch.device

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.num_ranks > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.num_ranks > 1:
            dist.barrier()


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun started; without it, be the only one. A GPU is taken where there is one."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if "WORLD_SIZE" not in os.environ:
        yield Ranks(rank=0, num_ranks=1, device=device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    try:
        yield Ranks(rank=dist.get_rank(), num_ranks=dist.get_world_size(), device=device)
    finally:
        dist.destroy_process_group()
