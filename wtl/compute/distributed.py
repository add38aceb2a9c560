"""The processes that train one network together: this one alone, or those that torchrun started.

All hold the same network and each draws its own micro-batches; DistributedDataParallel averages the
gradients. The first process is the main one: it alone writes what belongs to the run and prints. Trap: a step, and
everything here that says "together", must be reached by all, or those who did wait for those who did not.
Free of torch at import.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train; without arguments this one alone, for which nothing here does anything."""

    size: int = 1
    rank: int = 0
    """The number of this process, 0 .. size - 1."""
    local_rank: int = 0
    """The same among the processes of this machine: the number of its GPU."""
    local_size: int = 1

    @classmethod
    def from_environment(cls) -> Self:
        """Return what torchrun says of this process."""
        names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ.get(name, default)) for name, default in zip(names, "1001", strict=True)))

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def join(self) -> None:
        """Meet the others, together and before anything else is done together."""
        if self.size > 1:
            import torch

            # GPUs average gradients among themselves; words between processes go from CPU to CPU in any case.
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            torch.distributed.init_process_group(backend, rank=self.rank, world_size=self.size)

    def leave(self) -> None:
        """The reverse of `join`, at a good end; after a failure the end of the process is enough."""
        if self.size > 1:
            import torch

            torch.distributed.destroy_process_group()

    def on_main(self, ask: Callable[[], Answer]) -> Answer:
        """Return what the main process answers, together: the others do not ask, they wait for it."""
        if self.size == 1:
            return ask()
        import torch

        answer: list[Any] = [ask() if self.is_main else None]
        torch.distributed.broadcast_object_list(answer, device=torch.device("cpu"))
        return answer[0]

    def barrier(self) -> None:
        """Wait until all are here."""
        if self.size > 1:
            import torch

            torch.distributed.all_reduce(torch.zeros(1))

    def gathered(self, rows_NX: Tensor) -> Tensor:
        """Return (size x N, X) rows of all processes, together; row i of process r comes at i x size + r."""
        if self.size == 1:
            return rows_NX
        import torch

        everyone = [torch.empty_like(rows_NX) for _ in range(self.size)]
        torch.distributed.all_gather(everyone, rows_NX.contiguous())
        return torch.stack(everyone, dim=1).flatten(0, 1)

    def data_parallel(self, module: nn.Module) -> nn.Module:
        """Return the module such that a backward pass averages gradients; all start from the main one's weights."""
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        # Buffers are the normalisation of inputs: fitted before, the same for all, and never changed by a step.
        # A batch without demonstrations leaves out what reads them.
        return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


SINGLE = ProcessGroup()
