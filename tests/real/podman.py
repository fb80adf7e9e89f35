"""A real Podman for tests, with images, containers and settings in a folder of its own.

podman = Podman(folder).start(tree)
podman.place()               # settings for launchers.docker.Docker
podman.run("ps", "--all")    # a command by hand
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.real.conftest import need
from vncgate.kinds import DockerPlace

IMAGE = "desktop:test"

CONTAINERS = """
[containers]
netns = "host"
cgroups = "disabled"
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:20000", "nproc=20000:20000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"""

STORAGE = """
[storage]
driver = "overlay"
graphroot = "{root}/graph"
runroot = "{root}/runroot"
"""

# crun takes no mixture of cgroups v1 and v2, which some machines have: there it sees the second version alone.
WRAPPER = """#!/bin/bash
export CONTAINERS_STORAGE_CONF={root}/storage.conf CONTAINERS_CONF={root}/containers.conf
[ ! -e {root}/fault ] || . {root}/fault
podman=(podman --tmpdir {root}/tmp "$@")
grep -q " - cgroup " /proc/self/mountinfo || exec "${{podman[@]}}"
mkdir -p {cgroup} && echo 0 >{cgroup}/cgroup.procs
exec unshare -m -C --propagation private bash -c '
umount -R /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec "$@"' bash "${{podman[@]}}"
"""


class Podman:
    """One Podman. `IMAGE` is there; `command` is what runs it."""

    def __init__(self, folder: Path) -> None:
        need("podman", "crun", "unshare")
        self._root = folder
        self.command = folder / "podman"
        unified = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line]
        self._cgroup = Path(*unified[:1], f"vncgate-{os.getpid()}")

    def place(self, **more) -> DockerPlace:
        """A place that is this Podman."""
        user = "root" if os.geteuid() == 0 else ""
        return DockerPlace(**{"type": "docker", "command": (str(self.command),), "user": user} | more)

    def run(self, *argv: str, stdin: int = subprocess.DEVNULL) -> str:
        """A command by hand; its output. It must succeed."""
        done = subprocess.run([self.command, *argv], stdin=stdin, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"podman {argv}: {done.stderr}"
        return done.stdout.strip()

    def fault(self, script: str) -> None:
        """From now on every command runs these lines of bash first; with none, it is well again."""
        (self._root / "fault").write_text(script)

    def start(self, tree: Path) -> Podman:
        """Make the image of a tree of files."""
        self._root.mkdir(parents=True, exist_ok=True)
        (self._root / "containers.conf").write_text(CONTAINERS)
        (self._root / "storage.conf").write_text(STORAGE.format(root=self._root))
        self.command.write_text(WRAPPER.format(root=self._root, cgroup=self._cgroup))
        self.command.chmod(0o755)
        with subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE) as tar:
            self.run("import", "--quiet", "-", IMAGE, stdin=tar.stdout)
        return self

    def stop(self) -> None:
        """Remove all that it made."""
        self.run("rm", "--all", "--force", "--time=0")
        shutil.rmtree(self._root)
        if self._cgroup.is_dir():
            self._cgroup.rmdir()
