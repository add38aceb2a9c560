"""Event files of TensorBoard, written such that an error is raised where the writing was asked for, and said once.

TensorBoard writes in a thread of its own. An error there reaches the caller at the next flush, and beside that its
thread prints a traceback, which is left out here. Source: TensorBoard 2.21, `event_file_writer.py`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@contextlib.contextmanager
def event_writer(directory: Path, purge_step: int | None = None) -> Iterator[SummaryWriter]:
    """Give what writes events into a folder; what was given to it is in a file in the end.

    Args:
        directory: the folder, which is made if it is not there.
        purge_step: TensorBoard hides the older events from this step on.

    Raises:
        OSError: they could not be written; it names the folder.
    """
    from torch.utils.tensorboard import SummaryWriter

    try:
        with _errors_raised_not_printed(), SummaryWriter(str(directory), purge_step=purge_step) as writer:
            yield writer
    except OSError as error:
        if error.errno is None or error.filename is not None:  # of something else, beside which events were written
            raise
        raise OSError(error.errno, error.strerror, str(directory)) from error


@contextlib.contextmanager
def _errors_raised_not_printed() -> Iterator[None]:
    before = threading.excepthook

    def report(failure: threading.ExceptHookArgs) -> None:
        if not (issubclass(failure.exc_type, OSError) and type(failure.thread).__name__ == "_AsyncWriterThread"):
            before(failure)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = before
