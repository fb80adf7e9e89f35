"""A machine for a test: systemd as PID 1 in namespaces of its own, over a copy-on-write view of this one.

with Machine("vg", virtual_environment(tmp_path_factory), folder) as machine:
    machine.path("/etc/vncgate/workshop.tokens").write_text(...)
    machine.run("systemctl", "start", "vncgate")

What is written in it stays in memory and vanishes with it, and so do its processes, mounts and network.
It needs root, namespaces and a writable cgroup2 tree; where they are missing the test is skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.once import once, shared_folder
from tests.real.conftest import need

PATIENCE = 30.0
"""Seconds until what does not happen in a machine fails the test."""
PYTHON = "/usr/bin/python3"
"""Services run as users of their own, who cannot read a Python below /root: it must be the system's."""

BOOT = r"""
set -eu
name=$1 opt=$2 work=$3
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir -m 755 "$work/upper" "$work/inner" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/inner" "$work/root"
cd "$work/root"
mount -t proc -o nosuid,nodev,noexec proc proc
for guarded in proc/sys proc/sysrq-trigger; do        # nothing in here may turn a knob of the real kernel
    [ -e $guarded ] || continue
    mount --bind $guarded $guarded
    mount -o remount,bind,ro $guarded
done
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -o remount,bind,ro sys
mount -t tmpfs -o nosuid,mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs dev/shm
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs run
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs tmp
mkdir -p opt/vncgate
mkdir "$work/opt-upper" "$work/opt-inner"
mount -t overlay overlay -o "lowerdir=$opt,upperdir=$work/opt-upper,workdir=$work/opt-inner" opt/vncgate

# Of the host's services none is started, of its own only what a machine without hardware needs.
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires etc/rc?.d/S* etc/vncgate
rm -f lib/systemd/system/multi-user.target.wants/getty.target etc/systemd/system/vncgate*
for unit in console-getty.service getty.target systemd-udevd.service systemd-logind.service; do
    ln -sfn /dev/null etc/systemd/system/$unit
done
: > etc/fstab
tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
hostname "$name"
echo "$name" > etc/hostname
mkdir -p etc/vncgate etc/systemd/system.conf.d etc/systemd/journald.conf.d
printf '[Manager]\nLogTarget=journal\nShowStatus=no\n' > etc/systemd/system.conf.d/test.conf
printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' > etc/systemd/journald.conf.d/test.conf
ip link set lo up

mkdir .old
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
mount --make-rshared /        # nobody did it before PID 1 here, and LoadCredential= needs it
exec env -i container=vncgate-test PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-mac_admin,-mac_override,-syslog,-wake_alarm \
    /lib/systemd/systemd --unit=multi-user.target
"""


def need_machine() -> None:
    """Skip, with the reason, where no machine can be booted."""
    need("unshare", "nsenter", "setpriv", "ip", "systemctl")
    if os.getuid() != 0:
        pytest.skip("a systemd of its own needs root")
    if not Path("/lib/systemd/systemd").exists():
        pytest.skip("missing: /lib/systemd/systemd (Debian package systemd)")
    tried = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "--net", "--cgroup", "true"], capture_output=True
    )
    if tried.returncode != 0:
        pytest.skip(f"no namespaces can be made here: {tried.stderr.decode().strip()}")
    group = _cgroup("vncgate-try")
    try:
        group.mkdir()
        group.rmdir()
    except OSError as error:
        pytest.skip(f"no cgroup2 tree can be written here: {error}")


def virtual_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What /opt/vncgate holds: vncgate with its extra for systemd, made by the system's Python; 30 s for the first."""
    if not _python("import ensurepip, sys; assert sys.version_info >= (3, 11)"):
        pytest.skip(f"missing: {PYTHON} of version 3.11 or newer that makes environments (Debian package python3-venv)")
    need("gcc", "pkg-config")  # systemd-python is compiled
    if not _python("import os, sysconfig; os.stat(sysconfig.get_path('include') + '/Python.h')"):
        pytest.skip("missing: Python.h (Debian package python3-dev)")
    if subprocess.run(["pkg-config", "--exists", "libsystemd"]).returncode != 0:
        pytest.skip("missing: libsystemd (Debian package libsystemd-dev)")
    return once(shared_folder(tmp_path_factory) / "opt", _install)


def _install(opt: Path) -> None:
    source = Path(__file__).parents[2]
    subprocess.run([PYTHON, "-m", "venv", opt], check=True)
    pip = [opt / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*pip, "-c", source / ".ci" / "constraints.txt", f"{source}[systemd]"], check=True, timeout=280)
    subprocess.run([opt / "bin" / "python", "-c", "import vncgate.daemon, vncgate.cli, websockify"], check=True)
    for script in (opt / "bin").iterdir():  # it will lie at /opt/vncgate, and its scripts name their Python
        if not script.is_symlink():
            script.write_bytes(script.read_bytes().replace(bytes(opt), b"/opt/vncgate"))


class Machine:
    """One booted systemd; a context manager, which leaves nothing behind."""

    def __init__(self, name: str, opt: Path, scratch: Path) -> None:
        self._name = f"vncgate-{name}-{os.getpid()}"
        self._opt = opt
        self._work = scratch / self._name
        self._group = _cgroup(self._name)
        self._unshare: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """PID 1 as it is called outside."""

    def __enter__(self) -> Machine:
        self._work.mkdir(parents=True)
        self._group.mkdir()
        shell = 'echo 0 > "$1/cgroup.procs"; shift; exec "$@"'
        # Killed together: this process, then unshare, then all that lives in the namespaces.
        join = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", shell, "join", str(self._group)]
        unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net", "--cgroup"]
        boot = ["sh", "-c", BOOT, "boot", self._name, str(self._opt), str(self._work)]
        with (self._work.with_suffix(".console")).open("wb") as console:
            self._unshare = subprocess.Popen(
                [*join, *unshare, "--", *boot],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        try:
            self._wait_for_boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # and the kernel ends all that lives in its namespace
        if self._unshare:
            try:
                self._unshare.wait(5 if self.pid else 0)
            except subprocess.TimeoutExpired:
                self._unshare.kill()
                self._unshare.wait()
        deadline = time.monotonic() + PATIENCE
        for group in [Path(folder) for folder, _, _ in os.walk(self._group, topdown=False)]:
            while group.exists():
                try:
                    group.rmdir()
                except OSError:  # its last process is still being reaped
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
        shutil.rmtree(self._work, ignore_errors=True)

    def path(self, inside: str) -> Path:
        """A file of the machine's, as this side can read and write it (absolute symbolic links lead out of it)."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def run(self, *argv: str | Path, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program in the machine as root; a failure that was not expected shows what it said."""
        done = subprocess.run(
            [*self.enter(), *argv], input=stdin or "", capture_output=True, text=True, timeout=PATIENCE
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def enter(self) -> list[str]:
        """The head of a command line that is run in the machine."""
        environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "TERM=dumb", "SYSTEMD_PAGER="]
        return ["nsenter", "-t", str(self.pid), "-a", "--", "env", "-i", *environment]

    def python(self, code: str, *args: str) -> str:
        """What a piece of Python prints in the machine."""
        return self.run(PYTHON, "-c", code, *args).stdout

    def show(self, unit: str, *properties: str) -> list[str]:
        """Properties of a unit, as `systemctl show` has them."""
        shown = self.run("systemctl", "show", unit, "-p", ",".join(properties)).stdout
        values = dict(line.split("=", 1) for line in shown.splitlines())
        return [values.get(name, "") for name in properties]

    def until(self, look, *, patience: float = PATIENCE):
        """What `look()` gives, as soon as that is true."""
        deadline = time.monotonic() + patience
        while not (seen := look()):
            if time.monotonic() > deadline:
                journal = self.run("journalctl", "-b", "-n", "60", "--no-pager", "-o", "short-monotonic").stdout
                raise AssertionError(f"it did not happen within {patience} s; the journal:\n{journal}")
            time.sleep(0.05)
        return seen

    def _wait_for_boot(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._unshare.poll() is not None:
                break
            self.pid = self.pid or self._inner()
            if self.pid:
                asked = subprocess.run(
                    [*self.enter(), "systemctl", "is-system-running"], capture_output=True, stdin=subprocess.DEVNULL
                )
                if asked.stdout.strip() in (b"running", b"degraded"):
                    return
            time.sleep(0.05)
        raise AssertionError(f"no systemd booted:\n{self._work.with_suffix('.console').read_text()}")

    def _inner(self) -> int:
        """systemd, once the shell that set up its namespaces has become it."""
        with contextlib.suppress(OSError, IndexError):
            pid = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text().split()[0]
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return int(pid)
        return 0


def _python(code: str) -> bool:
    """Whether the system's Python runs `code` to its end."""
    try:
        return subprocess.run([PYTHON, "-c", code], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _cgroup(name: str) -> Path:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    found = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
    if not found:
        pytest.skip("no cgroup2 tree is mounted here")
    return found[0] / name
