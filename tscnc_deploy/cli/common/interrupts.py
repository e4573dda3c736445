"""Ctrl-C and SIGTERM: both end a command soon, also while compiled code runs that takes long."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
MESSAGE = "interrupted; run the same command again to resume"
# How long a command may take to end after SIGTERM; supervisors and users wait for about two seconds.
_PATIENCE_SECONDS = 1.5


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised like Ctrl-C, so that both leave the same state."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Context in which SIGTERM raises `Terminated`.

    Python runs its handlers between two instructions of the main thread, so one call of compiled code, such as the
    inference of a large graph, can put them off for minutes. A thread therefore ends the process if the command has
    not ended soon after SIGTERM, or at the second signal. This loses nothing that matters: outputs appear by renaming
    finished files, so a process may end at any instant.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    before = signal.signal(signal.SIGTERM, _terminate)
    woken = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(receiving,), name="interrupts", daemon=True)
    watch.start()
    try:
        yield
    finally:
        # A server's event loop may have replaced it.
        if (last := signal.set_wakeup_fd(woken)) not in (sending, -1):
            signal.set_wakeup_fd(last)
        signal.signal(signal.SIGTERM, before)
        os.close(sending)  # which ends the thread
        watch.join()


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _watch(receiving: int) -> None:
    """Reads the numbers of signals until the other end is closed."""
    first: int | None = None
    latest: float | None = None
    while True:
        wait = None if latest is None else max(latest - time.monotonic(), 0.0)
        ready, _, _ = select.select([receiving], [], [], wait)
        if not ready:
            end_now(signal.SIGTERM)
        if not (numbers := os.read(receiving, 64)):
            os.close(receiving)
            return
        for number in numbers:
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue
            if first is not None:
                end_now(number)
            first = number
            if number == signal.SIGTERM:
                latest = time.monotonic() + _PATIENCE_SECONDS


def end_now(number: int) -> None:
    """Ends this process and its workers at once, as if by the signal, with the message and the exit status for it."""
    with suppress(OSError):
        os.write(2, f"{MESSAGE}\n".encode())
    import multiprocessing  # here, as --help should not wait for it

    for child in multiprocessing.active_children():
        child.kill()
    os._exit(128 + number)


def _forget_in_child() -> None:
    """A forked child would report its own signals to its parent."""
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget_in_child)
