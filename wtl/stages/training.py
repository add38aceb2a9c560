"""The training loop: any learner, any meta-batches; exact resume, and the offending batch when a loss blows up.

A batch is a function of the step, so a run that was killed goes on with the very same numbers (bit for
bit on a CPU). Batches are made in a thread beside the training step. A step may be the mean over several
micro-batches, done one after another here or shared out among the processes of a group.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import pickle
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from wtl.analysis.events import event_writer
from wtl.compute.distributed import SINGLE, ProcessGroup
from wtl.core.files import sealed, unsealed, write_atomically
from wtl.data.meta_batches import Batch, MetaBatches
from wtl.methods.checkpoint import not_finite
from wtl.methods.learner import Learner, Losses, TrainConfig

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, pickle.UnpicklingError)
"""What torch and our own check raise for a state that is damaged or of another training."""

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, a note)."""


def choose_device(name: str, group: ProcessGroup = SINGLE) -> torch.device:
    """Return a GPU or the CPU; in a process group each process takes the GPU of its own number.

    Raises:
        ValueError: a device that is not there.
    """
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"train.device is {name}, but no GPU is available; set device: auto")
    if device.type == "cuda" and group.size > 1:
        if group.local_size > torch.cuda.device_count():
            raise ValueError(
                f"{group.local_size} processes train on this machine, which has {torch.cuda.device_count()} GPUs; "
                "start one process a GPU, or set device: cpu"
            )
        return torch.device("cuda", group.local_rank)
    return device


def micro_batches_of(config: TrainConfig, group: ProcessGroup) -> range:
    """Which of a step's micro-batches this process does.

    Raises:
        ValueError: they cannot be shared out evenly.
    """
    if config.micro_batches % group.size:
        raise ValueError(
            f"train.micro_batches is {config.micro_batches}, which {group.size} processes cannot share evenly; "
            f"set it to a multiple of {group.size} (and batch.contexts lower by as much), or start fewer processes"
        )
    return range(group.rank, config.micro_batches, group.size)


def _prefetched(batches: MetaBatches, first: int, last: int, parts: Sequence[int]) -> Iterator[list[Batch]]:
    """These micro-batches of the steps first .. last - 1, made ahead of time in a thread."""
    line: queue.Queue[list[Batch] | BaseException] = queue.Queue(maxsize=4)
    stop = threading.Event()

    def produce() -> None:
        for step in range(first, last):
            try:
                item: list[Batch] | BaseException = [batches(step, part) for part in parts]
            except BaseException as error:
                item = error
            while not stop.is_set():
                try:
                    line.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if stop.is_set() or isinstance(item, BaseException):
                return

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        for _ in range(first, last):
            item = line.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _saved(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _read_state(path: Path) -> bytes:
    content = path.read_bytes()
    # Earlier versions wrote torch's format as it is, which is a zip file whose own checksums torch does not look at.
    return content if content.startswith(b"PK") else unsealed(content)


class _Loss(nn.Module):
    """A loss as the forward pass of a module, which is what a process group can hook."""

    def __init__(self, network: nn.Module, loss: Callable[[Batch], Losses]) -> None:
        super().__init__()
        self.network, self._loss = network, loss

    def forward(self, batch: Batch) -> Losses:
        return self._loss(batch)


class Training:
    """One network being trained in one folder, by one process or by a group."""

    def __init__(
        self,
        learner: Learner,
        config: TrainConfig,
        directory: Path,
        log_dir: Path,
        seed: int,
        group: ProcessGroup = SINGLE,
    ) -> None:
        self.learner, self.config, self.directory, self.log_dir = learner, config, directory, log_dir
        self.group, self._parts = group, micro_batches_of(config, group)
        self.device = choose_device(config.device, group)
        if self.device.index is not None:
            torch.cuda.set_device(self.device)
        torch.manual_seed(seed % 2**63)
        self.network = learner.network.to(self.device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._rate)
        self.loss = learner.loss
        if self.device.type == "cuda" and learner.compiles:
            self.loss = torch.compile(learner.loss, dynamic=False)
        self.step = 0
        self.history: list[dict[str, float]] = []

    def _rate(self, step: int) -> float:
        warmup = min(1.0, (step + 1) / max(self.config.warmup_steps, 1))
        return warmup * 0.5 * (1.0 + float(np.cos(np.pi * min(step / self.config.steps, 1.0))))

    @property
    def _checkpoint(self) -> Path:
        return self.directory / "checkpoint.pt"

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one.

        Raises:
            ValueError: it is damaged, or of another network.
        """
        path = self._checkpoint
        if not path.exists():
            return False
        try:
            content = torch.load(io.BytesIO(_read_state(path)), weights_only=True, map_location=self.device)
            broken = not_finite(content["network"])
            if broken:
                raise ValueError(f"{broken} holds numbers that are not finite")
            self.network.load_state_dict(content["network"])
            self.optimiser.load_state_dict(content["optimiser"])
            self.schedule.load_state_dict(content["schedule"])
            torch.set_rng_state(content["random"].cpu())
            self.step, self.history = content["step"], content["history"]
        except _UNREADABLE as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).split("\n")[0]
            raise ValueError(
                f"{path} cannot be read ({reason}); delete it and run the same command again: "
                "this training then starts from its first step"
            ) from error
        return True

    def checkpoint(self) -> None:
        """Everything that is needed to go on exactly."""
        content = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
            "step": self.step,
            "history": self.history,
        }
        write_atomically(self._checkpoint, sealed(_saved(content)))

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    @functools.cached_property
    def _shared_loss(self) -> nn.Module:
        """Made at the first step, when the weights are those that training starts from."""
        return self.group.data_parallel(_Loss(self.network, self.loss))

    def train_step(self, *parts: Batch) -> Losses:
        """One optimiser step on the micro-batches of this process; the mean losses over those of all.

        Raises:
            FloatingPointError: a loss is not finite, on whichever process; its batch is written out.
        """
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        rows = []
        for left, batch in zip(reversed(range(len(parts))), parts, strict=True):
            # Processes wait for one another once a step, with the last micro-batch.
            waits = self.group.size == 1 or left == 0
            with contextlib.nullcontext() if waits else self._shared_loss.no_sync():  # type: ignore[operator]
                with self._precision():
                    losses = self._shared_loss(batch.to(self.device))
                (losses.total / len(parts)).backward()
            rows.append(torch.stack([loss.detach() for loss in losses.named().values()]))
        all_losses = [
            Losses(**dict(zip(losses.named(), row, strict=True))) for row in self.group.gathered(torch.stack(rows))
        ]
        # Looked at after the gradients, so that all processes come here and stop alike.
        for part, losses in enumerate(all_losses):
            if not torch.isfinite(losses.total):
                self._stop(part, losses, parts)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimiser.step()
        self.schedule.step()
        self.step += 1
        return _mean(all_losses)

    def _stop(self, part: int, losses: Losses, parts: Sequence[Batch]) -> None:
        path = self.directory / f"bad-batch-{self.step}.pt"
        if part in self._parts:
            batch = parts[self._parts.index(part)]
            content = {"step": self.step, "batch": repr(batch), "tensors": _tensors(batch)}
            write_atomically(path, _saved(content))
        self.group.barrier()  # before any process ends, and with it all: the file must be whole
        raise FloatingPointError(f"loss is {losses.total.item()} at step {self.step}; the batch is in {path}")

    def validate(self, batches: MetaBatches) -> Losses:
        """Mean losses on fixed batches of held-out goals of the training families."""
        self.network.eval()
        count = self.config.validation_batches
        # Gradients stay on: a method that adapts by gradient steps needs them here too.
        with self._precision():
            return _mean([self.loss(batches(i).to(self.device)) for i in range(count)])

    def fit(self, batches: MetaBatches, validation: MetaBatches | None, progress: Progress) -> None:
        """Train to the last step; the leading process writes checkpoints, TensorBoard and `losses.csv` on the way."""
        config, is_main = self.config, self.group.is_main
        note = ""
        # Steps from here on will come again, so their old events go.
        events = event_writer(self.log_dir, self.step + 1) if is_main else contextlib.nullcontext()
        with events as writer:
            for parts in _prefetched(batches, self.step, config.steps, self._parts):
                losses = self.train_step(*parts)
                last = self.step == config.steps
                if self.step % config.log_every_steps == 0 or last:
                    self._log(writer, "train", losses)
                if validation and (self.step % config.validate_every_steps == 0 or last):
                    checked = self.validate(validation)
                    self._log(writer, "validation", checked)
                    note = _note(losses, checked)
                if is_main and (self.step % config.checkpoint_every_steps == 0 or last):
                    self.checkpoint()
                progress(self.step, config.steps, note)
        if is_main:
            self._write_history()

    def _log(self, writer: SummaryWriter | None, part: str, losses: Losses) -> None:
        values = {name: loss.item() for name, loss in losses.named().items()}
        if writer:
            for name, value in values.items():
                writer.add_scalar(f"4_training/loss_{name}/{part}", value, self.step)
            if part == "train":
                writer.add_scalar("4_training/learning_rate", self.schedule.get_last_lr()[0], self.step)
        self.history.append({"step": self.step, "validation": float(part == "validation"), **values})

    def _write_history(self) -> None:
        names = ["step", "validation", "total", "action", "goal"]
        text = io.StringIO()
        table = csv.DictWriter(text, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(self.history)
        write_atomically(self.directory / "losses.csv", text.getvalue().encode())


def _mean(losses: Sequence[Losses]) -> Losses:
    """Return the mean of each kind of loss over batches of one size."""
    kinds = {name: [one.named()[name].detach() for one in losses] for name in losses[0].named()}
    return Losses(**{name: torch.stack(values).mean() for name, values in kinds.items()})


def _note(trained: Losses, checked: Losses) -> str:
    """For the progress bar."""
    parts = []
    if trained.action is not None and checked.action is not None:
        parts.append(f"loss {trained.action.item():.2f}, validation {checked.action.item():.2f}")
    if trained.goal is not None and checked.goal is not None:
        parts.append(f"goal {trained.goal.item():.3f}, validation {checked.goal.item():.3f}")
    return ", ".join(parts)


def _tensors(batch: Batch) -> dict[str, torch.Tensor]:
    parts = dict(vars(batch))
    for kind in ("demonstrations", "trials"):
        segments = getattr(batch.context, kind) if batch.context else None
        parts |= {f"{kind}.{name}": tensor for name, tensor in (vars(segments) if segments else {}).items()}
    parts |= {f"windows.{name}": tensor for name, tensor in (vars(batch.windows) if batch.windows else {}).items()}
    return {name: value.cpu() for name, value in parts.items() if isinstance(value, torch.Tensor)}


def share_cores(group: ProcessGroup = SINGLE) -> None:
    """Half of the cores for torch: the other half makes batches, and on small machines is the same silicon twice."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2 // group.local_size))
