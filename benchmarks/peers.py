"""The relays under test, each started as its users start it.

with PEERS["vncgate"].serve(bench, Site(accounts=200, desktops=15000)) as relay:
    relay.tree, relay.player      # what to measure, and the player's arguments that reach the accounts
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.machine import Bench, Skipped, free_range, python, wait_until_answers
from benchmarks.processes import ALL_CORES, RELAY_CORE, Tree, running
from vncgate.cookies import SESSION, digest
from vncgate.ledger import Ledger
from vncgate.people import Session


@dataclass(frozen=True)
class Site:
    """What a relay is to serve: account i leads to the desktop on port `desktops` + i.

    `own_ports`: every account has a port of its own, as in the HPC wiki's guide; else all share one. A relay that
    cannot tell accounts apart on one port leads all to the first desktop. `pinned`: to one core.
    """

    accounts: int
    desktops: int
    own_ports: bool = False
    pinned: bool = True

    @property
    def cores(self) -> set[int]:
        """Where the relay may run."""
        return RELAY_CORE if self.pinned else ALL_CORES

    @property
    def ports(self) -> int:
        """How many ports it listens on."""
        return self.accounts if self.own_ports else 1


@dataclass
class Relay:
    """A relay that runs. `path` is a websocket's (%d: the account's number), or empty: it is a pipe. `header` is a line
    that its viewers send (%d as in `path`), where they send one.
    """

    tree: Tree
    port: int
    site: Site
    path: str = ""
    folder: Path = field(default_factory=Path)
    header: str = ""

    @property
    def player(self) -> list[object]:
        """The player's arguments that lead to the accounts."""
        header = ["-H", self.header] if self.header else []
        return [
            *(["-w", self.path] if self.path else []),
            *header,
            *(["-i"] if self.site.own_ports else []),
            "-a",
            self.port,
        ]

    def where(self, account: int) -> tuple[int, str]:
        """Port and path of an account."""
        path = self.path % account if "%d" in self.path else self.path
        return (self.port + account if self.site.own_ports else self.port), path

    def url(self, account: int) -> str:
        """The same as vncgate's rehearsal wants it."""
        port, path = self.where(account)
        return f"{'ws' if path else 'tcp'}://127.0.0.1:{port}{path}"

    def wait(self) -> None:
        """Until the last account is served."""
        last = self.site.accounts - 1
        wait_until_answers(*self.where(last), self.header % last if self.header else "")


class Peer:
    """One relay under test. `most`: desktops beyond which it is not tried, and `why`."""

    name = ""
    most = 10**9
    why = ""

    @contextlib.contextmanager
    def serve(self, bench: Bench, site: Site) -> Iterator[Relay]:
        """Run it and wait until it serves."""
        with self.launch(bench, site) as relay:
            relay.wait()
            yield relay

    def launch(self, bench: Bench, site: Site) -> contextlib.AbstractContextManager[Relay]:
        """Start its processes."""
        raise NotImplementedError


class C(Peer):
    """relay.c: the limit."""

    name = "c"

    @contextlib.contextmanager
    def launch(self, bench: Bench, site: Site) -> Iterator[Relay]:
        """One process."""
        port = free_range(site.ports)
        command = [bench.program("relay"), port, site.desktops, site.ports]
        with running(command, cores=site.cores, show=bench.show) as process:
            yield Relay(Tree(process), port, site)


class HAProxy(Peer):
    """Plain TCP; one thread where it has one core, else as many as it takes by itself."""

    name = "haproxy"
    config = """\
global
    maxconn 6000
{threads}
defaults
    mode tcp
    backlog 4096
    timeout connect 5s
    timeout client 1h
    timeout server 1h
"""
    section = "listen account{i}\n    bind 127.0.0.1:{port}\n    server desktop 127.0.0.1:{desktop}\n"

    @contextlib.contextmanager
    def launch(self, bench: Bench, site: Site) -> Iterator[Relay]:
        """One process, a `listen` section a port."""
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise Skipped("haproxy is not installed (.ci/bench-packages)")
        port, folder = free_range(site.ports), bench.new_folder()
        text = self.config.format(threads="    nbthread 1\n" if site.pinned else "")
        text += "".join(self.section.format(i=i, port=port + i, desktop=site.desktops + i) for i in range(site.ports))
        (folder / "haproxy.cfg").write_text(text)
        command = [program, "-db", "-f", folder / "haproxy.cfg"]
        with running(command, cores=site.cores, log=folder / "log", show=bench.show) as process:
            yield Relay(Tree(process), port, site, folder=folder)


class Websockify(Peer):
    """One listener that forks for each connection; with ports of their own, a listener an account, as in the guide."""

    name = "websockify"
    most = 500
    why = "beyond 508 connections of one listener its select() refuses the descriptors"

    @contextlib.contextmanager
    def launch(self, bench: Bench, site: Site) -> Iterator[Relay]:
        """A process for each port."""
        port, folder = free_range(site.ports), bench.new_folder()
        with contextlib.ExitStack() as stack:
            processes = []
            for i in range(site.ports):
                command = python("-m", "websockify", f"127.0.0.1:{port + i}", f"127.0.0.1:{site.desktops + i}")
                options = {"cores": site.cores, "log": folder / "log", "show": bench.show and i == 0}
                processes.append(stack.enter_context(running(command, **options)))
            yield Relay(Tree(*processes), port, site, "/websockify", folder)


class Vncgate(Peer):
    """`vncgate run` with the settings that it comes with, but for its ports; one worker where it has one core."""

    name = "vncgate"
    header = ""

    @contextlib.contextmanager
    def launch(self, bench: Bench, site: Site) -> Iterator[Relay]:
        """The daemon and its workers."""
        folder = bench.new_folder()
        # The pages' port, the shared port, and those of the accounts.
        first = free_range(2 + site.ports)
        config = f'web = "127.0.0.1:{first}"\nshared_port = {first + 1}\ncontrol = "{folder}/control"\n'
        if site.pinned:
            config += "workers = 1\n"
        (folder / "vncgate.toml").write_text(config + self.settings(site, first, folder))
        tokens = folder / "workshop.tokens"
        tokens.touch(0o600)
        tokens.write_text("".join(self.line(site, i, first + 2) for i in range(site.accounts)))
        path = "/websockify" if site.own_ports else "/ws/path%d"
        command = ["env", f"STATE_DIRECTORY={folder}", *python("-m", "vncgate", "run", tokens)]
        command += ["--config", folder / "vncgate.toml"]
        with running(command, cores=site.cores, log=folder / "log", show=bench.show) as process:
            yield Relay(Tree(process), first + (2 if site.own_ports else 1), site, path, folder, self.header)

    def settings(self, site: Site, first: int, folder: Path) -> str:  # noqa: ARG002
        """Further lines of the settings; `first` is the pages' port."""
        return ""

    @staticmethod
    def line(site: Site, account: int, first: int) -> str:
        """An account's line of the token file; `first` is the port of account 0, where they have ports."""
        port = str(first + account) if site.own_ports else "-"
        return f"ws{account} 127.0.0.1 path{account} {port} {site.desktops + account} p{account:07d}\n"


class Guarded(Vncgate):
    """The same with `access = "seat"`: a session a viewer, and the gate logs in to the desktops."""

    name = "guarded"
    header = f"Cookie: {SESSION}={'A' * 38}%05d"

    def settings(self, site: Site, first: int, folder: Path) -> str:
        """Access, and who is signed in."""
        asyncio.run(self._sign_in(site.accounts, f"sqlite:///{folder}/ledger.sqlite"))
        return f'access = "seat"\npublic_url = "http://127.0.0.1:{first}/"\n'

    async def _sign_in(self, accounts: int, url: str) -> None:
        now = datetime.now(UTC)
        ledger = await Ledger.open(url)
        for i in range(accounts):
            cookie = (self.header % i).partition("=")[2]
            await ledger.add_session(Session(digest(cookie), now, now + timedelta(days=1), f"ws{i}"))
        await ledger.aclose()


PEERS = {peer.name: peer for peer in (Vncgate(), C(), HAProxy(), Websockify(), Guarded())}
