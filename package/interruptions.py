"""SIGTERM and SIGHUP stop a command as Ctrl-C does, and none of them breaks off the saving of what is finished."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A container's stop, a batch system's time limit, a terminal that is closed.
_TERMINATIONS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """A signal asked the process to stop: what handles Ctrl-C handles this.

    Args:
        signum: number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


@contextmanager
def terminations_interrupt() -> Iterator[list[int]]:
    """Raise `Terminated` in the main thread at SIGTERM and SIGHUP for as long as the block runs.

    Signals that somebody else handles, or that are ignored as under ``nohup``, are left as they are, and so are child
    processes.

    Yields:
        The signals that came.
    """
    came: list[int] = []
    owner = os.getpid()

    def stop(signum: int, _: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked child ends as it would have ended without this
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        came.append(signum)
        raise Terminated(signum)

    main = threading.current_thread() is threading.main_thread()
    taken = [each for each in _TERMINATIONS if main and signal.getsignal(each) is signal.SIG_DFL]
    for each in taken:
        signal.signal(each, stop)
    try:
        yield came
    finally:
        for each in taken:
            if signal.getsignal(each) is stop:
                signal.signal(each, signal.SIG_DFL)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Ignore Ctrl-C, SIGTERM and SIGHUP inside the block: for the saving of finished work, which takes a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, *_TERMINATIONS)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
