"""Desktops as processes of hosts, whoever the hands are that reach there: the place itself, for `local` and `ssh`.

All that is done on a host is done by a short shell program (host.sh) with everything in it, sent to a shell's standard
input. Nothing stays there but the desktops: each is a session of its own (setsid(2)), detached from whoever started it,
with a folder that says which process it is. So a desktop is found again by its nonce alone.
"""

from __future__ import annotations

import abc
import asyncio
import functools
import logging
from collections.abc import Collection, Sequence
from importlib import resources
from typing import Protocol

from vncgate import rfb
from vncgate.errors import LaunchError, UnsureError
from vncgate.kinds import LocalPlace, SshPlace
from vncgate.launchers import report
from vncgate.launchers.base import Handle, Seen, Sighting, Spec, Whom
from vncgate.launchers.scripts import Listen, Scripts, quote
from vncgate.launchers.together import Together
from vncgate.launchers.users import NOT_AS_ROOT
from vncgate.model import Desktop, Secret
from vncgate.text import printable

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds that a host has to do what it is asked."""
LONGEST_ANSWER = 1 << 20
"""Bytes that a host may say: ours are some hundred for each desktop, or 64 KiB of a log."""
LONGEST_WORDS = 1000
"""Characters of a reason that are told."""
GRACE = 80
"""Tenths of a second that a desktop's script has to end all by itself, before what is left is killed."""

_PROGRAM = resources.files("vncgate.launchers").joinpath("host.sh").read_text()


class Reader(Protocol):
    """Where the output of a shell is read."""

    async def read(self, n: int, /) -> bytes:
        """Some bytes, `n` at most; none at its end."""


class HostPlace(abc.ABC):
    """Desktops on hosts on which a shell can be had. A `Whom` is a host, and the user that desktops run as there."""

    hosts: Sequence[str] = ()

    def __init__(self, name: str, settings: LocalPlace | SshPlace, scripts: Scripts, listen: Listen) -> None:
        self._name = name
        self._not_as_root = "" if settings.may_be_root else NOT_AS_ROOT
        self._scripts = scripts
        self._listen = listen
        self._looks: dict[Whom, Together] = {}
        self._homes: dict[Whom, str] = {}

    # What the hands do.

    @abc.abstractmethod
    async def _execute(self, whom: Whom, program: bytes, timeout: float) -> bytes:
        """Run `sh -s` with `program` on its standard input; returns what it wrote to stdout and stderr, see `all_of()`.

        However many ask at the same time, the hands ask no more of a host than it can take.

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
        script = await self._scripts.files.do(self._scripts.desktop, spec, folder, self._listen)
        commands = " && ".join([*before, f"exec {session}"])
        try:
            await self._ask(whom, "submit", spec.nonce, _escapes(spec.password), script, commands, self._not_as_root)
        except UnsureError:
            return handle
        return handle

    async def query(self, handle: Handle) -> Sighting:
        """How it is now; see base.Place."""
        whom = handle.host, handle.user
        if whom not in self._looks:
            self._looks[whom] = Together(functools.partial(self._look, whom), f"{self._name} {whom}")
        try:
            answers = await self._looks[whom].look(handle.nonce)
            return await self._sighting(handle, answers[handle.nonce])
        except LaunchError as error:
            return Sighting(Seen.UNKNOWN, host=handle.host, reason=str(error))

    async def cancel(self, handle: Handle) -> None:
        """End it; see base.Place."""
        answer = await self._ask((handle.host, handle.user), "cancel", handle.nonce, str(GRACE))
        if answer.startswith("left "):
            why = printable(answer.removeprefix("left ").strip()[:LONGEST_WORDS])
            log.warning("%s: files of an ended desktop stay, and are tried again later: %s", _named(handle.host), why)
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
        await asyncio.gather(*(together.aclose() for together in self._looks.values()))

    async def _root(self, whom: Whom) -> str:
        """The folder of the desktops' folders, as an absolute path. Raises LaunchError."""
        folder = self._folder(whom)
        if folder.startswith("/"):
            return folder
        if whom not in self._homes:
            self._homes[whom] = (await self._ask(whom, "home")).strip()
        return f"{self._homes[whom]}/{folder}"

    async def _look(self, whom: Whom, nonces: Collection[str]) -> dict[str, str]:
        said = await self._ask(whom, "look", *nonces)
        answers = {nonce: answer for nonce, _, answer in (line.partition(" ") for line in said.splitlines())}
        if not answers.keys() >= {*nonces}:
            raise UnsureError(f"{_named(whom[0])} did not say how its desktops are")
        return answers

    async def _sighting(self, handle: Handle, answer: str) -> Sighting:
        seen, _, rest = answer.partition(" ")
        if seen == "gone":
            await self._let_go(handle)
            status, _, said = rest.partition(" ")
            exit_status = int(status) if status.isdecimal() else None
            return Sighting(Seen.GONE, host=handle.host, said=printable(said), exit_status=exit_status)
        if seen == "fallen":
            await self._let_go(handle)
            return Sighting(Seen.GONE, host=handle.host, reason="the host was started anew")
        reported = report.parse(rest + "\n", handle.nonce)
        desktop = await self._reach(handle, reported) if reported else None
        return Sighting(Seen.RUNNING, desktop, host=handle.host)

    async def _ask(self, whom: Whom, function: str, *arguments: str) -> str:
        """Call a function of host.sh; returns its answer. Raises LaunchError with what it says, or what failed."""
        call = " ".join([function, *map(quote, arguments)])
        text = f"set -u\nroot={quote(self._folder(whom))}\n{_PROGRAM}\n{{ {call}\n}} </dev/null\nexit 0\n"
        out = await self._execute(whom, text.encode(errors="surrogateescape"), PATIENCE)
        before, begun, answer = out.decode(errors="replace").partition("vncgate\n")
        if not begun:
            why = before.strip().rpartition("\n")[2][:LONGEST_WORDS]
            raise LaunchError(f"{_named(whom[0])} runs no shell for us: {printable(why) or 'it said nothing'}")
        if answer.startswith("failed "):
            why = answer.removeprefix("failed ").strip()[:LONGEST_WORDS]
            raise LaunchError(f"{_named(whom[0])}: {_words(why)}")
        return answer


async def all_of(output: Reader, host: str) -> bytes:
    """All that a shell writes, to its end. Raises UnsureError for more than LONGEST_ANSWER."""
    said = bytearray()
    while part := await output.read(65536):
        said += part
        if len(said) > LONGEST_ANSWER:
            raise UnsureError(
                f"{_named(host)} wrote more than {LONGEST_ANSWER >> 10} KiB to what it was asked: does a start-up "
                "file of its shell print without end?"
            )
    return bytes(said)


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
