"""Processes of a benchmark: started pinned, ended for certain, and what a tree of them has used.

CPU of a tree is that of its living processes, by their CPU clocks (clock_getcpuclockid(3): user and system time of all
threads, in nanoseconds), and of their children that have ended, by cutime and cstime of /proc/PID/stat (proc(5):
hundredths of a second, summed up by whoever waited for them). /proc's own utime and stime would round each process down
to hundredths, which is all that a process for each connection uses.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
RELAY_CORE, LOAD_CORE = {CORES[0]}, {CORES[-1]}
ALL_CORES = set(CORES)
TICK = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
MARK = "BENCHMARK_PROCESS"
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Used:
    """What a tree has used up to a moment: seconds of CPU, and the moment."""

    cpu: float
    when: float

    def share_since(self, earlier: Used) -> float:
        """Cores that were used between."""
        return (self.cpu - earlier.cpu) / (self.when - earlier.when)


class Tree:
    """Processes that `running()` started, with all that descend from them.

    They are found by a variable that each inherits: a daemon's workers may have left their parents, as vncgate's do.
    """

    def __init__(self, *processes: subprocess.Popen) -> None:
        self._marks = [process.mark for process in processes]

    def pids(self) -> list[int]:
        """All that are alive now."""
        return [pid for entry in Path("/proc").glob("[0-9]*") if self._is_ours(pid := int(entry.name))]

    def _is_ours(self, pid: int) -> bool:
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # it is another user's, or has ended
            return False
        return any(mark in environ for mark in self._marks)

    def used(self) -> Used:
        """CPU so far, and when that was."""
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):  # it has just ended, and is in its parent's account
                total += time.clock_gettime(_cpu_clock(pid)) + ended_children(Path(f"/proc/{pid}/stat").read_text())
        return Used(total, time.monotonic())

    def pss(self) -> float:
        """MB of memory, pages that several processes share divided among them (proc(5), smaps_rollup)."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += pss_kb(Path(f"/proc/{pid}/smaps_rollup").read_text())
        return total / 1024

    def descriptors(self) -> int:
        """Open file descriptors."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return total


def ended_children(stat: str) -> float:
    """Seconds of CPU of the children that a process has waited for, and theirs: cutime and cstime of its `stat`."""
    fields = stat.rpartition(")")[2].split()  # the name before may have blanks and brackets
    return (int(fields[13]) + int(fields[14])) / TICK


def pss_kb(rollup: str) -> int:
    """The Pss of a `smaps_rollup`, in KB."""
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


def _cpu_clock(pid: int) -> int:
    return ~pid << 3 | 2  # as clock_getcpuclockid(3) makes it, which Python has for threads only


@contextlib.contextmanager
def running(
    argv: Sequence[object],
    *,
    cores: set[int] = ALL_CORES,
    log: Path | None = None,
    show: bool = False,
    **options: object,
) -> Iterator[subprocess.Popen]:
    """A process that may use `cores`; it has ended when the context has.

    It gets SIGTERM, after five seconds SIGKILL, as does what it started, and SIGKILL if this process dies. Its errors
    go to `log`.
    """
    if show:
        pinned = "" if cores == ALL_CORES else f"taskset -c {','.join(map(str, sorted(cores)))} "
        print("   $", pinned + " ".join(map(str, argv)), flush=True)

    mark = f"{MARK}={uuid.uuid4().hex}"

    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, cores)

    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("ab")) if log else subprocess.DEVNULL
        process = subprocess.Popen(
            list(map(str, argv)),
            **({"stdin": subprocess.DEVNULL, "stdout": errors} | options),
            stderr=errors,
            start_new_session=True,
            env=dict([*os.environ.items(), mark.split("=")]),
            preexec_fn=prepare,  # noqa: PLW1509  (this process has one thread)
        )
        process.mark = mark.encode()
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    with contextlib.ExitStack() as stack:
        family = []  # by descriptor: a number may be another process's by then
        for pid in Tree(process).pids():
            with contextlib.suppress(ProcessLookupError):
                family.append(os.pidfd_open(pid))
                stack.callback(os.close, family[-1])
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for descriptor in family:
            with contextlib.suppress(ProcessLookupError):  # what it left behind
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


def raise_descriptor_limit() -> None:
    """As many as this user may have; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
