"""A small desktop as an image for containers: this host's own packages in a folder, so that nothing is fetched.

Podman imports it, Apptainer runs it as it is.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.real.conftest import need

PACKAGES = (
    "bash", "coreutils", "dbus", "findutils", "grep", "hostname", "libc-bin", "openbox", "procps", "sed",
    "tigervnc-standalone-server", "xauth", "xterm",
)  # fmt: skip
UNUSED = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "*/perl*", "*/python3*",
    "*/dri/*_dri.so", "*/libLLVM-*", "*/libgs.so.*", "*/libz3.so.*",
)  # fmt: skip
"""Three quarters of it, and nothing that a desktop in a test does without."""
PASSWD = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"


def build(folder: Path) -> Path:
    """Make the tree as `folder`; 4 s, 150 MB."""
    need("dpkg-query", "apt-cache", "Xvnc", "dbus-daemon", "xauth")
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "proc", "sys", "dev", "run", "var", "root"):
        (folder / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):  # as Debian has it, whatever its packages say
        (folder / name).symlink_to(f"usr/{name}")
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    only = [f"--no-{what}" for what in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    needed = _output("apt-cache", "depends", "--recurse", "--installed", *only, *PACKAGES).splitlines()
    packages = sorted({line for line in needed if line[:1].isalnum()})
    files = _output("dpkg-query", "--listfiles", *packages, lenient=True)  # not every alternative is there
    pack = ["tar", "-c", "--no-recursion", "--ignore-failed-read", *(f"--exclude={each}" for each in UNUSED), "-T", "-"]
    packed = subprocess.run(pack, input=files.encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    subprocess.run(["tar", "-C", folder, "-x", "--keep-directory-symlink"], input=packed.stdout, check=True)
    sh = folder / "usr/bin/sh"  # no package's own on Debian
    sh.unlink(missing_ok=True)
    sh.symlink_to("bash")
    (folder / "etc/passwd").write_text(PASSWD)
    (folder / "etc/group").write_text("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")
    subprocess.run(["ldconfig", "-r", folder], check=True)
    return folder


def _output(*argv: str, lenient: bool = False) -> str:
    return subprocess.run(argv, check=not lenient, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
