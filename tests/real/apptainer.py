"""A real Apptainer for tests: this host's, or where it has none, one from a tree of Debian sid.

Debian has it in no other suite, and that one needs a newer libc than a stable Debian has. So its program is run with
the tree as its root folder, with /tmp, /dev, /proc, /run and /sys of the host in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.once import once
from tests.real.conftest import need

# As root it wants CAP_SYS_RESOURCE, which not every machine for tests gives.
WRAPPER = """#!/bin/bash
export APPTAINER_DROP_CAPS=${{APPTAINER_DROP_CAPS-CAP_SYS_RESOURCE}}
exec unshare -m --propagation private bash -c '
tree=$1
shift
mount --bind "$tree" "$tree"
for folder in proc sys dev tmp run; do mount --rbind "/$folder" "$tree/$folder"; done
mount --make-rslave "$tree"
cd "$tree" && mkdir -p .old && pivot_root . .old && umount -l /.old && cd /
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec apptainer "$@"' bash {tree} "$@"
"""


TREE = Path(__file__).parents[2] / "build" / "apptainer"
"""Where the tree is kept from run to run; `make clean` removes it."""


def install(folder: Path) -> Path:
    """A folder with a program `apptainer` in it, to be put on PATH.

    Where this host has none, 20 s, 300 MB and a mirror of Debian are needed for the first time.
    """
    if program := shutil.which("apptainer"):
        return Path(program).parent
    need("mmdebstrap", "unshare")
    once(TREE, _make_tree)
    (folder / "apptainer").write_text(WRAPPER.format(tree=TREE))
    (folder / "apptainer").chmod(0o755)
    return folder


def prepare() -> None:
    """Make the tree before the tests, whose time is limited; where it cannot be made, they say why."""
    if not (shutil.which("apptainer") or TREE.exists()) and shutil.which("mmdebstrap") and os.geteuid() == 0:
        print("Making a tree of Debian sid for Apptainer ...", flush=True)
        once(TREE, _make_tree)


def _make_tree(folder: Path) -> None:
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", "--aptopt=Acquire::Check-Valid-Until false"]
    done = subprocess.run(
        [*argv, "--include=apptainer,e2fsprogs,fuse2fs,squashfuse", "sid", folder],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"no tree of Debian sid: {done.stderr}"
    shutil.copy("/etc/hosts", folder / "etc/hosts")
    folder.chmod(0o755)


if __name__ == "__main__":
    prepare()
