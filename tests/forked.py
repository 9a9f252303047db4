"""Work in a child process that was forked from this one: nothing is imported or loaded anew, and it can be killed."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

TIMEOUT_S = 300


class Child:
    """A forked process; what it prints goes into a file.

    Args:
        work: what it does; its exit code is what this returns, 0 for None, or 99 after an exception.
        log: the file, in a folder that exists.
    """

    def __init__(self, work: Callable[[], int | None], log: Path) -> None:
        self.log = log
        self.pid = os.fork()
        self._code: int | None = None
        if self.pid == 0:
            code = 99
            try:
                os.setsid()  # what it starts is killed with it
                opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(opened, 1), os.dup2(opened, 2)
                sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
                code = work() or 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)

    def poll(self) -> int | None:
        """Return the exit code, the negative signal where one ended it, or None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self) -> int:
        """Return the exit code when it has ended; it is killed when it takes too long."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while (code := self.poll()) is None:
            if time.monotonic() > deadline_s:
                self.kill()
                raise TimeoutError(f"must end within {TIMEOUT_S} s: {self.said()}")
            time.sleep(0.005)
        return code

    def kill(self) -> int:
        """Kill it and what it started by SIGKILL, and return its exit code."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def kill_when(self, reached: Callable[[], bool]) -> None:
        """Kill it as soon as something holds; it must not have ended before."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not reached() and self.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.002)
        assert self.kill() == -signal.SIGKILL, self.said()

    def said(self) -> str:
        """Return the end of what it printed."""
        return self.log.read_text("utf-8", "replace")[-3000:] if self.log.is_file() else ""


def run_forked(work: Callable[[], int | None], log: Path) -> None:
    """Do work in a forked process; it must succeed."""
    child = Child(work, log)
    assert child.wait() == 0, child.said()
