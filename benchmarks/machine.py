"""The machine that is measured on: what it is, the programs built for it, its free ports, and one look at a desktop."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

SOURCES = Path(__file__).parent
PROGRAMS = ("relay", "desktop", "player")
PATIENCE = 60.0
"""Seconds until a relay that does not come up fails the run."""


class Skipped(Exception):  # noqa: N818  (it is no error)
    """A run that was not made, and why."""


@dataclass
class Bench:
    """Where a run works: `folder` has the programs of PROGRAMS; `full` measures longer; `show` prints all commands."""

    folder: Path
    full: bool = False
    show: bool = False
    runs: int = field(default=0)

    def program(self, name: str) -> Path:
        """One of the programs in C."""
        return self.folder / name

    def new_folder(self) -> Path:
        """A folder for one run."""
        self.runs += 1
        folder = self.folder / f"run{self.runs}"
        folder.mkdir()
        return folder

    def seconds(self, short: float, full: float) -> float:
        """How long to measure."""
        return full if self.full else short


def build(folder: Path) -> None:
    """Compile the programs into `folder`; raises CalledProcessError after the compiler has said why."""
    for name in PROGRAMS:
        compiler = os.environ.get("CC", "cc")
        command = [compiler, "-O2", "-Wall", "-Wextra", "-o", folder / name, SOURCES / f"{name}.c", "-lm"]
        subprocess.run(command, check=True)


def describe() -> dict[str, str]:
    """The machine, and the versions of all that is measured."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    found = {
        "cores": f"{len(os.sched_getaffinity(0))} x {cpu[1] if cpu else platform.machine()}",
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB",
        "system": f"{release}, Linux {platform.release().split('-')[0]}",
        "TCP": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "Python": platform.python_version(),
    }
    found |= {
        name: metadata.version(name) for name in ("vncgate", "picows", "uvloop", "aiofastnet", "websockify", "numpy")
    }
    for name, command, pattern in (
        ("HAProxy", ["haproxy", "-v"], r"version ([\d.]+)"),
        ("Apache", [apache() or "apache2", "-v"], r"Apache/([\d.]+)"),
        ("compiler", [os.environ.get("CC", "cc"), "--version"], r"(.*)"),
    ):
        with contextlib.suppress(OSError):
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            found[name] = match[1] if (match := re.search(pattern, said)) else said.strip()
    return found


def apache() -> str | None:
    """The Apache program, or None."""
    return shutil.which("apache2", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def free_memory() -> float:
    """MB that could be used without swapping."""
    return int(re.search(r"MemAvailable:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) / 1024


def free_range(count: int) -> int:
    """The first of `count` ports in a row of 127.0.0.1 that are free now, below those of outgoing connections."""
    for _ in range(1000):
        first = random.randrange(10240, 32000 - count)  # noqa: S311
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                sock = held.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", port))
            return first
    raise RuntimeError(f"no {count} free ports in a row on 127.0.0.1")


def answers(port: int, path: str = "", header: str = "", patience: float = 10.0) -> bool:
    """Whether a desktop's greeting comes through: by a websocket at `path`, or without one."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), patience) as sock:
        received, wanted = b"", b"RFB 003.008\n"
        if path:
            sock.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                f"{header}{header and chr(13) + chr(10)}\r\n".encode()
            )
        while wanted not in received and (data := sock.recv(4096)):
            received += data
        return wanted in received
    return False


def wait_until_answers(port: int, path: str, header: str = "", interval: float = 0.005) -> None:
    """Ask again and again until it does; raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not answers(port, path, header):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing answered on port {port} {path} for {PATIENCE:g} s")
        time.sleep(interval)


def python(*arguments: object) -> list[object]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]
