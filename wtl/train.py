"""The training loop: any learner, any meta-batches; exact resume, and the offending batch when a loss blows up.

A batch is a function of the step, so a run that was killed goes on with the very same numbers (bit for
bit on a CPU). Batches are made in a thread beside the training step.
"""

from __future__ import annotations

import csv
import io
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from wtl.batch import Batch, BatchConfig, MetaBatches
from wtl.learner import Learner, Losses
from wtl.store import write_atomically

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, a note)."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation of one network."""

    steps: int = 2000
    batch: BatchConfig = field(default_factory=BatchConfig)
    learning_rate: float = 1e-3
    """Peak; linear warm-up, then a cosine to zero."""
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    validate_every_steps: int = 250
    validation_batches: int = 4
    checkpoint_every_steps: int = 250
    log_every_steps: int = 25
    device: str = "auto"
    """auto: a GPU if there is one (bf16 and torch.compile there), else the CPU in float32."""

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "validate_every_steps",
            "validation_batches",
            "checkpoint_every_steps",
            "log_every_steps",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"train.learning_rate must be positive, got {self.learning_rate}")


def choose_device(name: str) -> torch.device:
    """Raises ValueError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"train.device is {name}, but no GPU is available; set device: auto")
    return device


def _prefetched(batches: MetaBatches, first: int, last: int) -> Iterator[Batch]:
    """Batches of the steps first .. last - 1, made ahead of time in a thread."""
    line: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=4)
    stop = threading.Event()

    def produce() -> None:
        for step in range(first, last):
            try:
                item: Batch | BaseException = batches(step)
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


def _save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


class Training:
    """One network being trained in one folder."""

    def __init__(self, learner: Learner, config: TrainConfig, directory: Path, log_dir: Path, seed: int) -> None:
        self.learner, self.config, self.directory, self.log_dir = learner, config, directory, log_dir
        self.device = choose_device(config.device)
        torch.manual_seed(seed % 2**63)
        self.network = learner.network.to(self.device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
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
        """Go on from the last checkpoint, if there is one."""
        if not self._checkpoint.is_file():
            return False
        content = torch.load(self._checkpoint, weights_only=True, map_location=self.device)
        self.network.load_state_dict(content["network"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.schedule.load_state_dict(content["schedule"])
        torch.set_rng_state(content["random"].cpu())
        self.step, self.history = content["step"], content["history"]
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
        _save_checkpoint(self._checkpoint, content)

    def _losses(self, batch: Batch) -> Losses:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.loss(batch.to(self.device))

    def train_step(self, batch: Batch) -> Losses:
        """One optimiser step. Raises FloatingPointError, and writes the batch out, if the loss is not finite."""
        self.network.train()
        losses = self._losses(batch)
        if not torch.isfinite(losses.total):
            path = self.directory / f"bad-batch-{self.step}.pt"
            _save_checkpoint(path, {"step": self.step, "batch": repr(batch), "tensors": _tensors(batch)})
            raise FloatingPointError(f"loss is {losses.total.item()} at step {self.step}; the batch is in {path}")
        self.optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimiser.step()
        self.schedule.step()
        self.step += 1
        return losses

    def validate(self, batches: MetaBatches) -> Losses:
        """Mean losses on fixed batches of held-out goals of the training families."""
        self.network.eval()
        count = self.config.validation_batches
        # Gradients stay on: a method that adapts by gradient steps needs them here too.
        all_losses = [self._losses(batches(i)) for i in range(count)]

        def mean(name: str) -> Any:
            values = [getattr(losses, name) for losses in all_losses]
            return None if values[0] is None else torch.stack([v.detach() for v in values]).mean()

        return Losses(mean("total"), mean("action"), mean("belief"))

    def fit(self, batches: MetaBatches, validation: MetaBatches | None, progress: Progress) -> None:
        """Train to the last step; write checkpoints, TensorBoard and `losses.csv` on the way."""
        config = self.config
        writer = SummaryWriter(str(self.log_dir), purge_step=self.step + 1)  # the events that will come again
        note = ""
        try:
            for batch in _prefetched(batches, self.step, config.steps):
                losses = self.train_step(batch)
                last = self.step == config.steps
                if self.step % config.log_every_steps == 0 or last:
                    self._log(writer, "train", losses)
                if validation and (self.step % config.validate_every_steps == 0 or last):
                    checked = self.validate(validation)
                    self._log(writer, "validation", checked)
                    note = f"loss {losses.action.item():.2f}, validation {checked.action.item():.2f}"
                    if checked.belief is not None:
                        note += f", goal {checked.belief.item():.3f}"
                if self.step % config.checkpoint_every_steps == 0 or last:
                    self.checkpoint()
                progress(self.step, config.steps, note)
        finally:
            writer.close()
        self._write_history()

    def _log(self, writer: SummaryWriter, part: str, losses: Losses) -> None:
        values = {"action": losses.action.item(), "total": losses.total.item()}
        if losses.belief is not None:
            values["belief"] = losses.belief.item()
        for name, value in values.items():
            writer.add_scalar(f"loss_{name}/{part}", value, self.step)
        if part == "train":
            writer.add_scalar("learning_rate", self.schedule.get_last_lr()[0], self.step)
        self.history.append({"step": self.step, "validation": float(part == "validation"), **values})

    def _write_history(self) -> None:
        names = ["step", "validation", "total", "action", "belief"]
        text = io.StringIO()
        table = csv.DictWriter(text, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(self.history)
        write_atomically(self.directory / "losses.csv", text.getvalue().encode())


def _tensors(batch: Batch) -> dict[str, torch.Tensor]:
    parts = {**vars(batch), **(vars(batch.segments) if batch.segments else {})}
    return {name: value.cpu() for name, value in parts.items() if isinstance(value, torch.Tensor)}


def share_cores() -> None:
    """Half of the cores for torch: the other half makes batches, and on small machines is the same silicon twice."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
