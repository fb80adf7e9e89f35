"""A machine to break: mount and network namespaces (namespaces(7)), in which a second pytest runs tests/faults/machine.

There a test may mount over anything and bind any port, and nothing of that is seen outside.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.real.conftest import need

OUTSIDE = "MOUNT_NAMESPACE_OUTSIDE"
"""The variable that holds, inside, the name of the mount namespace that was left."""


def _mounts() -> str:
    return str(Path("/proc/self/ns/mnt").readlink())


def are_ours() -> bool:
    """Whether this process is in namespaces that run() made."""
    return os.environ.get(OUTSIDE, _mounts()) != _mounts()


def mount(*args: str | Path) -> None:
    """mount(8), where it hurts nobody."""
    assert are_ours(), "nothing is mounted on the machine that the tests were started on"
    subprocess.run(["mount", *args], check=True)


def run(tests: Path) -> None:
    """Run the tests of a file in new namespaces; fails with all that they said."""
    need("unshare", "ip", "mount")
    unshare = ["unshare", "--mount", "--net", *(["--map-root-user"] if os.getuid() else [])]
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no namespaces can be made here: {tried.stderr.strip()}")
    with tempfile.TemporaryDirectory() as folder:  # a short name: a control socket's path has its limit
        inner = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/t", str(tests)]
        done = subprocess.run(
            [*unshare, "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *inner],
            cwd=tests.parents[3],
            env={**os.environ, OUTSIDE: _mounts()},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, f"in namespaces of their own:\n{done.stdout}{done.stderr}"
