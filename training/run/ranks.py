"""The processes of one training run: this one alone, or those that torchrun started, on one machine or many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

# While the first process evaluates, the others wait: for hours, where the default gives up after half an hour.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Say which process this is, of how many, and on which device it computes; `patient` is the group that waits."""

    rank: int
    num_ranks: int
    device: torch.device
    patient: dist.ProcessGroup | None = None

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.num_ranks > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.num_ranks > 1:
            dist.barrier()

    def share(self, value: T) -> T:
        """Return what the first process gives, in all of them; they wait for it as long as it takes."""
        if self.num_ranks == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.patient)
        return box[0]


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun started; without it, be the only one. A GPU is taken where there is one.

    Within another such block it is the same processes: who trains several times joins once.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if "WORLD_SIZE" not in os.environ:
        yield Ranks(rank=0, num_ranks=1, device=device)
        return
    if dist.is_initialized():
        yield Ranks(rank=dist.get_rank(), num_ranks=dist.get_world_size(), device=device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    try:
        patient = dist.new_group(backend="gloo", timeout=_PATIENCE)
        yield Ranks(rank=dist.get_rank(), num_ranks=dist.get_world_size(), device=device, patient=patient)
    finally:
        dist.destroy_process_group()
