"""Desktops as processes of hosts, whoever the hands are that reach there: the place itself, for `local` and `ssh`.

All that is done on a host is done by a short shell program (host.sh) with everything in it, sent to a shell's standard
input. Nothing stays there but the desktops: each is a session of its own (setsid(2)), detached from whoever started it,
with a folder that says which process it is. So a desktop is found again by its nonce alone.
"""

from __future__ import annotations

import abc
import asyncio
from collections import defaultdict
from collections.abc import Sequence
from importlib import resources

from vncgate import rfb, tasks
from vncgate.errors import LaunchError
from vncgate.launchers import report
from vncgate.launchers.base import Handle, Seen, Sighting, Spec
from vncgate.launchers.scripts import Listen, Scripts, quote
from vncgate.model import Desktop, Secret
from vncgate.text import printable

MOMENT = 0.02
"""Seconds within which all questions for desktops of one host become one."""
PATIENCE = 20.0
"""Seconds that a host has to do what it is asked."""
GRACE = 80
"""Tenths of a second that a desktop's script has to end all by itself, before what is left is killed."""

AT_ONCE = 8
"""Things that a host is asked to do at the same time: sshd's MaxSessions is 10 for each connection."""

Whom = tuple[str, str]

_PROGRAM = resources.files("vncgate.launchers").joinpath("host.sh").read_text()


class UnsureError(LaunchError):
    """A host was asked to do something, and nothing is known about what became of it."""


class HostPlace(abc.ABC):
    """Desktops on hosts on which a shell can be had. A `Whom` is a host, and the user that desktops run as there."""

    hosts: Sequence[str] = ()

    def __init__(self, name: str, scripts: Scripts, listen: Listen) -> None:
        self._name = name
        self._scripts = scripts
        self._listen = listen
        self._looks: dict[Whom, tuple[set[str], asyncio.Task[dict[str, str]]]] = {}  # those that can still be joined
        self._looking: set[asyncio.Task[dict[str, str]]] = set()
        self._turns: defaultdict[Whom, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._homes: dict[Whom, str] = {}

    # What the hands do.

    @abc.abstractmethod
    async def _execute(self, whom: Whom, program: bytes, timeout: float) -> tuple[bytes, bytes]:
        """Run `sh -s` with `program` on its standard input; returns what it wrote to stdout and to stderr.

        Raises UnsureError when it did not come to its end, LaunchError when it was not started.
        """

    @abc.abstractmethod
    def _folder(self, whom: Whom) -> str:
        """The folder of the desktops' folders, relative to the user's home."""

    @abc.abstractmethod
    async def _reach(self, handle: Handle, reported: Desktop) -> Desktop:
        """Where the gate reaches a desktop that reported to be at `reported`. Raises LaunchError."""

    @abc.abstractmethod
    async def _let_go(self, handle: Handle) -> None:
        """The desktop is gone: so is what was made to reach it."""

    # What a place does.

    async def submit(self, spec: Spec) -> Handle:
        """Start a desktop; see base.Place. Where nobody can say whether it started, `query()` will tell."""
        handle = Handle(self._name, spec.account, spec.nonce, spec.host, spec.user, job=spec.nonce)
        whom = spec.host, spec.user
        root = await self._root(whom)
        folder = f"{root}/{spec.nonce}"
        *before, session = map(quote, self._scripts.commands(spec, folder))
        script = self._scripts.desktop(spec, folder, self._listen)
        commands = " && ".join([*before, f"exec {session}"])
        try:
            await self._ask(whom, "submit", spec.nonce, _escapes(spec.password), script, commands)
        except UnsureError:
            return handle
        return handle

    async def query(self, handle: Handle) -> Sighting:
        """How it is now; see base.Place."""
        whom = handle.host, handle.user
        if whom not in self._looks:
            nonces: set[str] = set()
            task = tasks.spawn(self._look(whom, nonces), f"look at {self._name} {whom}", expected=LaunchError)
            self._looks[whom] = nonces, task
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)
        nonces, task = self._looks[whom]
        nonces.add(handle.nonce)
        try:
            answers = await asyncio.shield(task)
            return await self._sighting(handle, answers[handle.nonce])
        except LaunchError as error:
            return Sighting(Seen.UNKNOWN, host=handle.host, reason=str(error))

    async def cancel(self, handle: Handle) -> None:
        """End it; see base.Place."""
        await self._ask((handle.host, handle.user), "cancel", handle.nonce, str(GRACE))
        await self._let_go(handle)

    async def logs(self, handle: Handle, lines: int = 200) -> str:
        """The end of what its session wrote."""
        said = await self._ask((handle.host, handle.user), "logs", handle.nonce, str(lines))
        return "".join(printable(line.expandtabs()) + "\n" for line in said.splitlines())

    async def rekey(self, handle: Handle, password: Secret) -> None:
        """From now on its VNC server asks for `password`."""
        await self._ask((handle.host, handle.user), "rekey", handle.nonce, _escapes(password))

    async def aclose(self) -> None:
        """Let go of tasks; desktops stay."""
        await tasks.end(*self._looking)

    async def _root(self, whom: Whom) -> str:
        """The folder of the desktops' folders, as an absolute path. Raises LaunchError."""
        folder = self._folder(whom)
        if folder.startswith("/"):
            return folder
        if whom not in self._homes:
            self._homes[whom] = (await self._ask(whom, "home")).strip()
        return f"{self._homes[whom]}/{folder}"

    async def _look(self, whom: Whom, nonces: set[str]) -> dict[str, str]:
        await asyncio.sleep(MOMENT)
        del self._looks[whom]
        said = await self._ask(whom, "look", *sorted(nonces))
        answers = {nonce: answer for nonce, _, answer in (line.partition(" ") for line in said.splitlines())}
        if not nonces <= answers.keys():
            raise UnsureError(f"{_named(whom[0])} did not say how its desktops are")
        return answers

    async def _sighting(self, handle: Handle, answer: str) -> Sighting:
        seen, _, rest = answer.partition(" ")
        if seen == "gone":
            await self._let_go(handle)
            status, _, reason = rest.partition(" ")
            exit_status = int(status) if status.isdecimal() else None
            return Sighting(Seen.GONE, host=handle.host, reason=printable(reason), exit_status=exit_status)
        reported = report.parse(rest + "\n", handle.nonce)
        desktop = await self._reach(handle, reported) if reported else None
        return Sighting(Seen.RUNNING, desktop, host=handle.host)

    async def _ask(self, whom: Whom, function: str, *arguments: str) -> str:
        """Call a function of host.sh; returns its answer. Raises LaunchError with what it says, or what failed."""
        call = " ".join([function, *map(quote, arguments)])
        text = f"set -u\nroot={quote(self._folder(whom))}\n{_PROGRAM}\n{{ {call}\n}} </dev/null\nexit 0\n"
        async with self._turns[whom]:
            out, err = await self._execute(whom, text.encode(errors="surrogateescape"), PATIENCE)
        _, begun, answer = out.decode(errors="replace").partition("vncgate\n")
        if not begun:
            why = (err or out).decode(errors="replace").strip().rpartition("\n")[2]
            raise LaunchError(f"{_named(whom[0])} runs no shell for us: {printable(why) or 'it said nothing'}")
        if answer.startswith("failed "):
            raise LaunchError(f"{_named(whom[0])}: {_words(answer.removeprefix('failed ').strip())}")
        return answer


def _escapes(password: Secret) -> str:
    """A password file as printf's escapes."""
    return "".join(f"\\{byte:03o}" for byte in rfb.password_file(password))


def _named(host: str) -> str:
    return host or "this host"


def _words(said: str) -> str:
    """What a tool said of a failure, in words that a person can act on."""
    said = printable(said)
    if "No space left on device" in said:
        return f"the home folder, or the disk of the desktops' folder, is full: remove files from it ({said})"
    if "quota exceeded" in said:
        return f"the home folder, or the disk of the desktops' folder, is over its quota: remove files from it ({said})"
    return said
