"""A real Slurm cluster on this host for tests: munged, slurmctld, and a slurmd for each node, in a folder of its own.

with Cluster(folder, nodes=3, cpus=5) as cluster:
    cluster.place()               # settings for launchers.slurm.Slurm, with counted commands
    cluster.controller.stop()     # and .start(): the same cluster again
    cluster.nodes["n2"].kill()
    cluster.start_rest()          # and place(transport="rest", ...): the same by slurmrestd

The daemons are on ports that the kernel gave, and end with the cluster. The nodes are one
host, so desktops find each other's ports taken, as on a cluster they would not.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.real.conftest import find, need
from vncgate.kinds import SlurmPlace

PATIENCE = 30.0
"""Seconds until what does not happen in the cluster fails the test."""
TOKENS = list(Path("/usr/lib").glob("**/slurm*/auth_jwt.so"))
"""Slurm's plug-in for tokens, without which slurmrestd serves only the user that it runs as."""
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol")

CONF = """
ClusterName=vncgate
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CredType=cred/munge
SlurmctldPort={port}
SlurmdPort={port}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=1,bf_interval=2,sched_min_interval=10000
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
KillWait=10
MinJobAge={min_job_age}
SlurmctldTimeout=30
SlurmdTimeout=30
MessageTimeout=5
InactiveLimit=0
OverTimeLimit=0
SlurmdParameters=config_overrides
"""


class Daemon:
    """One of Slurm's daemons; its log is `log`. It is no child of ours: a test may start it anew and not end it."""

    def __init__(self, log: Path, argv: Sequence[str | Path], environ: dict[str, str] | None = None) -> None:
        self.log = log
        self._argv = argv
        self._environ = environ
        self._pidfile = log.with_suffix(".process")
        self._pid = 0

    def start(self) -> None:
        self._pidfile.unlink(missing_ok=True)
        noting = ["setsid", "--fork", "sh", "-c", 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec "$@"', self._pidfile]
        with self.log.open("ab") as log:
            subprocess.run(
                [*noting, *self._argv],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                check=True,
            )
        while not self._pidfile.exists():
            time.sleep(0.01)
        self._pid = int(self._pidfile.read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; once more does nothing."""
        if not self._pid:
            return
        deadline = time.monotonic() + PATIENCE
        self._signal(number)
        while self._is_there():
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
            time.sleep(0.01)
        self._pid = 0

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def _is_there(self) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self):
        """It hangs: its port takes connections (the kernel does), and nobody answers."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)


class Cluster:
    """`nodes` nodes n1, n2, ... of `cpus` processors each, in the partitions desktop (the default), short and again.

    In `short` a job may take one minute. `outrank()` takes nodes from jobs: those of the partition `again` are put back
    in the queue, where they do not forbid it. `calls(command)` says how often a command was run through `place()`.
    """

    def __init__(self, nodes: int = 2, cpus: int = 8, *, min_job_age: int = 300) -> None:
        need("slurmctld", "slurmd", "sbatch", "squeue", "munged", "slurmrestd")
        self.root = Path(tempfile.mkdtemp(prefix="vg-slurm-"))  # short: a socket's path has 107 bytes at most
        self.root.chmod(0o755)
        self.conf = self.root / "slurm.conf"
        self.shared = self.root / "shared"
        self.commands = self.root / "bin"
        self.environ = {"PATH": os.environ["PATH"], "SLURM_CONF": str(self.conf), "SLURM_TIME_FORMAT": "%s"}
        self._names = [f"n{number + 1}" for number in range(nodes)]
        self._configure(cpus, min_job_age)
        munge = self.root / "munge"
        self._munge = Daemon(
            self.root / "munged.log",
            [
                find("munged"),
                "--foreground",
                f"--key-file={munge}/key",
                f"--socket={munge}/socket",
                f"--pid-file={munge}/pid",
                f"--seed-file={munge}/seed",
                "--num-threads=2",
            ],
        )
        self.controller = Daemon(
            self.root / "slurmctld.log", [find("slurmctld"), "-D", "-f", self.conf], dict(self.environ)
        )
        self.nodes = {
            name: Daemon(
                self.root / f"slurmd-{name}.log",
                [find("slurmd"), "-D", "-f", self.conf, "-N", name],
                dict(self.environ),
            )
            for name in self._names
        }

        self.rest: Daemon | None = None
        self._rest_settings: dict[str, object] = {}

    def start_rest(self) -> None:
        """Start slurmrestd: on a TCP port, with a token of ours. It refuses to run as root, or as Slurm's own user."""
        if not TOKENS:
            pytest.skip("missing: auth_jwt.so (Debian package slurm-wlm-jwt-plugin)")
        (port,) = free_ports(1)
        token = self.root / "token"
        token.write_text(self.run("scontrol", "token", f"username={getpass.getuser()}", "lifespan=86400"))
        token.chmod(0o600)
        nobody = [] if os.getuid() else ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        argv = [*nobody, find("slurmrestd"), "-a", "rest_auth/jwt", "-s", "openapi/v0.0.38", f"127.0.0.1:{port}"]
        self.rest = Daemon(self.root / "slurmrestd.log", argv, self.environ | {"SLURM_JWT": "daemon"})
        self.rest.start()
        self._rest_settings = {"transport": "rest", "rest": f"http://127.0.0.1:{port}", "rest_token": token}

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        self.until(answers, "slurmrestd")

    def _configure(self, cpus: int, min_job_age: int) -> None:
        for folder in ("munge", "state", "bin", "shared"):
            (self.root / folder).mkdir(mode=0o755)
        (self.root / "munge/key").write_bytes(secrets.token_bytes(1024))
        (self.root / "munge/key").chmod(0o400)
        (self.root / "jwt.key").write_bytes(secrets.token_bytes(32))
        (self.root / "jwt.key").chmod(0o600)
        port, *ports = free_ports(1 + len(self._names))
        lines = [CONF.format(root=self.root, port=port, user=getpass.getuser(), min_job_age=min_job_age)]
        if TOKENS:
            lines.append(f"AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={self.root}/jwt.key")
        for name, its in zip(self._names, ports, strict=True):
            lines.append(
                f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={its} CPUs={cpus} RealMemory=8000"
            )
        everywhere = ",".join(self._names)
        lines.append(f"PartitionName=desktop Nodes={everywhere} Default=YES MaxTime=INFINITE State=UP")
        lines.append(f"PartitionName=short Nodes={everywhere} MaxTime=1 State=UP")
        lines.append(f"PartitionName=again Nodes={everywhere} State=UP PreemptMode=REQUEUE")
        lines.append(f"PartitionName=urgent Nodes={everywhere} State=UP PriorityTier=10 PreemptMode=OFF")
        self.conf.write_text("\n".join(lines) + "\n")
        for command in COMMANDS:
            wrapper = self.commands / command
            wrapper.write_text(
                f"#!/bin/sh\necho >> {self.root}/calls-{command}\n"
                f'[ ! -e {self.root}/fault-{command} ] || . {self.root}/fault-{command}\nexec {find(command)} "$@"\n'
            )
            wrapper.chmod(0o755)

    def place(self, transport: str = "commands", **settings) -> SlurmPlace:
        """Settings of a place that is this cluster, by its commands or by slurmrestd."""
        how = {"commands": self.commands, "conf": self.conf} if transport == "commands" else self._rest_settings
        own = {"type": "slurm", "folder": self.shared, "poll_interval": 0.5, "user": getpass.getuser()}
        return SlurmPlace(**own | how | settings)

    def calls(self, command: str) -> int:
        """How often `command` was run through `place()`."""
        with contextlib.suppress(FileNotFoundError):
            return (self.root / f"calls-{command}").stat().st_size
        return 0

    @contextlib.contextmanager
    def fault(self, command: str, script: str):
        """`command` runs these lines of sh before it does its work, or instead of it where they exit."""
        path = self.root / f"fault-{command}"
        path.write_text(script)
        try:
            yield
        finally:
            path.unlink()

    def run(self, *argv: str) -> str:
        """A command of Slurm's by hand; its output. It must succeed."""
        done = subprocess.run(argv, env=self.environ, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def outrank(self) -> str:
        """Have a job of higher priority take all nodes; its number. It may preempt what runs in other partitions."""
        size = [f"--nodes={len(self.nodes)}", "--exclusive", "--output=/dev/null"]
        return self.run("sbatch", "--parsable", "--partition=urgent", *size, "--wrap=sleep 1000").strip()

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{what}: waited in vain\n{self.log}"
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.root.glob("*.log")))

    def start(self) -> Cluster:
        self._munge.start()
        self.until((self.root / "munge/socket").exists, "munged")
        self.controller.start()
        for node in self.nodes.values():
            node.start()
        self.until(self._all_idle, "the nodes")
        return self

    def _all_idle(self) -> bool:
        done = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%t", "--partition=desktop"],
            env=self.environ, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        return done.stdout.split() == ["idle"] * len(self.nodes)

    def stop(self) -> None:
        """End every job and every daemon, and what is left of them."""
        for daemon in (self.rest, *self.nodes.values(), self.controller):
            if daemon is not None:
                daemon.stop()
        for pid in self._left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.until(lambda: not self._left(), "the end of the jobs")
        self._munge.stop()
        shutil.rmtree(self.root)

    def _left(self) -> list[int]:
        """Processes that descend from this cluster's slurmds: each has its configuration in its environment."""
        marker = f"SLURM_CONF={self.conf}".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if marker in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
        return found

    def __enter__(self) -> Cluster:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc: object) -> None:
        self.stop()
