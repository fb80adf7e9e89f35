"""A real sshd for tests, on a port of 127.0.0.1, with keys and a home folder of its own.

with Sshd(folder) as server:
    server.place()          # settings for launchers.ssh.Ssh
    server.connections      # how many there are
    server.cut()            # every connection to it is lost
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.ports import free_ports
from tests.real.conftest import find, need
from tests.real.gate import ME
from vncgate.kinds import SshPlace

PATIENCE = 20.0

CONF = """
Port {port}
ListenAddress 127.0.0.1
HostKey {root}/host
PidFile none
AuthorizedKeysFile {root}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
{more}
"""
AT_HOME = "SetEnv HOME={home} PATH={home}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class Sshd:
    """One sshd. `known_hosts` has its key, `key` is one that it accepts.

    `more` are further lines of its configuration; as it comes, whoever logs in is at home in `home`, and `home`/bin is
    on the host's PATH.
    """

    def __init__(self, folder: Path, more: str = AT_HOME) -> None:
        need("sshd", "ssh-keygen")
        self._root = folder
        self.home = folder / "home"
        self._more = more.format(home=self.home)
        self.key = folder / "user"
        self.known_hosts = folder / "known_hosts"
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen | None = None

    def place(self, **more) -> SshPlace:
        """A place on it."""
        return SshPlace(
            **{
                "type": "ssh",
                "hosts": "127.0.0.1",
                "user": ME,
                "port": self.port,
                "key": self.key,
                "known_hosts": self.known_hosts,
                **more,
            }
        )

    @property
    def log(self) -> str:
        return (self._root / "sshd.log").read_text(errors="replace")

    def new_host_key(self) -> None:
        """The host was set up anew: it has another key."""
        (self._root / "host").unlink(missing_ok=True)
        self._generate(self._root / "host")

    def start(self) -> Sshd:
        """Start it, and wait until it serves."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # its privilege separation
        with (self._root / "sshd.log").open("ab") as log:
            argv = [find("sshd"), "-D", "-e", "-f", str(self._root / "sshd_config")]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while "Server listening" not in self.log:
            assert self._process.poll() is None, f"sshd did not start:\n{self.log}"
            assert time.monotonic() < deadline, f"sshd does not serve:\n{self.log}"
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End it, and its connections; once more does nothing."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGSTOP)  # nobody connects anew in between
        self.cut()
        self._process.kill()
        self._process.wait(PATIENCE)
        (self._root / "sshd.log").unlink()

    def cut(self) -> int:
        """Kill the processes that serve connections; returns how many there were."""
        children = self._children()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        return len(children)

    @property
    def connections(self) -> int:
        """Each has a process of its own."""
        return len(self._children())

    def _children(self) -> list[int]:
        return [*map(int, Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split())]

    def _generate(self, path: Path) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)

    def __enter__(self) -> Sshd:
        self.home.mkdir(parents=True)
        self._generate(self.key)
        self._generate(self._root / "host")
        public = (self._root / "host.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}")
        (self._root / "sshd_config").write_text(CONF.format(port=self.port, root=self._root, more=self._more))
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
