"""Images of Apptainer brought to the hosts of a place, and only where they are not there already.

A host is sent the image on the standard input of a small shell program, which alone touches its disk: so an image that
did not come to its end, for whatever reason, is removed by the host itself, and nobody ever sees half a file.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from vncgate import hostlist, tasks
from vncgate.errors import LaunchError
from vncgate.kinds import PATTERN, DesktopsSettings, DockerPlace, SshPlace, Wrap
from vncgate.launchers.base import Whom
from vncgate.launchers.lines import Lines
from vncgate.text import printable

AT_ONCE = 4
"""Hosts that are sent an image at the same time."""
BLOCK = 1 << 20
"""Bytes that are read and sent at once."""
DIGEST_TIMEOUT = 600.0
"""Seconds that a host may need to read an image that it has."""
STALL_TIMEOUT = 120.0
"""Seconds without any progress after which a copy has failed."""
LONGEST_WORDS = 1000
"""Bytes that are told of what went wrong on a host."""

# One line, as the user's login shell may be of any kind. $1 is the folder, $2 the name, $3 the digest, $4 the mode.
_RECEIVE = (
    'command -v sha256sum >/dev/null || { echo "it has no sha256sum" >&2; exit 1; }; '
    'umask 022; mkdir -p -- "$1" && cd -- "$1" && new=$(mktemp ".$2.XXXXXXXX") || exit; '
    'trap "" HUP INT TERM PIPE; '
    'if cat >"$new" && [ "$(sha256sum <"$new")" = "$3  -" ] && chmod "$4" "$new" && mv -f -- "$new" "$2"; '
    'then exit 0; fi; rm -f -- "$new"; echo "it came damaged" >&2; exit 1'
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A file of this host, and where the hosts of a place are to have it. `size` is in bytes."""

    source: Path
    path: str
    place: str
    size: int


def plan(settings: DesktopsSettings, wanted: str, place: str) -> Delivery:
    """What `vncgate images deploy` is asked for: `wanted` is a kind, or a file whose name is that of a kind's image.

    `place` may be empty: that of the kind. Raises LaunchError for what cannot be meant.
    """
    kinds = {name: kind for name, kind in settings.kinds.items() if kind.wrap is Wrap.APPTAINER}
    for name in (settings.kinds[wanted].place if wanted in settings.kinds else "", place):
        if isinstance(engine := settings.place(name), DockerPlace):
            raise LaunchError(f"place {name}: it has images of its own; `{engine.command[0]} pull` brings them")
    if wanted in kinds:
        kind = kinds[wanted]
        source = Path(kind.image)
    elif wanted in settings.kinds:
        raise LaunchError(f'kind {wanted}: it has no wrap = "apptainer", so there is no image to bring')
    else:
        source = Path(wanted)
        named = [kind for kind in kinds.values() if posixpath.basename(kind.image) == source.name]
        named = [kind for kind in named if place in ("", kind.place)] or named
        if len({(kind.image, kind.place) for kind in named}) != 1:
            known = ", ".join(f"{name} ({kind.image})" for name, kind in kinds.items()) or "there is none"
            raise LaunchError(f"{wanted}: which kind's image is it? With wrap apptainer: {known}")
        kind = named[0]
    try:
        size = source.stat().st_size
    except (OSError, ValueError):
        raise LaunchError(f"{source} is not there, or not for us to see") from None
    if not source.is_file():
        why = "is a folder; `apptainer build` makes a .sif of it" if source.is_dir() else "is no regular file"
        raise LaunchError(f"{source} {why}")
    if not posixpath.isabs(kind.image):
        raise LaunchError(f"image {kind.image!r}: only one with an absolute path can be brought to other hosts")
    name = place or kind.place
    if settings.place(name) is None:
        known = ", ".join(dict.fromkeys(("local", *settings.places)))
        raise LaunchError(f"there is no place {name!r}; known are {known}")
    return Delivery(source, kind.image, name, size)


def copy(delivery: Delivery) -> bool:
    """Bring an image to its path on this host, or in a folder that hosts share; returns whether it had to be copied.

    Raises OSError, and LaunchError for a file that cannot be read; then there is no half file.
    """
    target = Path(delivery.path)
    if target.is_file() and (target.samefile(delivery.source) or _digest(target) == _digest(delivery.source)):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    new = Path(temporary)
    try:
        os.close(descriptor)
        shutil.copyfile(delivery.source, new)
        new.chmod(_mode(delivery.source))
        new.replace(target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return True


async def deploy(
    delivery: Delivery, place: SshPlace, *, progress: Callable[[str, int], None], done: Callable[[str, str], None]
) -> dict[str, str]:
    """Bring an image to all hosts of a place; returns what went wrong, by host.

    `progress(host, bytes)` is told how much of it a host has, `done(host, words)` how it went well. Raises LaunchError
    for an image that cannot be read.
    """
    digest, free, failed = await asyncio.to_thread(_digest, delivery.source), asyncio.Semaphore(AT_ONCE), {}
    lines, user = Lines(place), "" if PATTERN.search(place.user) else place.user

    async def one(host: str) -> None:
        try:
            async with free:
                words = await _bring(lines, (host, user), delivery, digest, lambda count: progress(host, count))
            done(host, words)
        except LaunchError as error:
            failed[host] = str(error)
        except TimeoutError:
            failed[host] = f"nothing went on for {STALL_TIMEOUT:g} s"
        except (asyncssh.Error, OSError) as error:
            failed[host] = f"the connection was lost: {printable(str(error))}"

    work = [tasks.spawn(one(host), f"image to {host}") for host in hostlist.expand(place.hosts)]
    try:
        await asyncio.gather(*work)
    finally:
        await tasks.end(*work)
        await lines.aclose()
    return failed


async def _bring(lines: Lines, whom: Whom, delivery: Delivery, digest: str, progress: Callable[[int], None]) -> str:
    argv = ["sha256sum", "--", delivery.path]
    there = await lines.run(whom, argv, timeout=DIGEST_TIMEOUT, stdin="", env={})
    # A name with a backslash or a newline is told with a backslash before the line (sha256sum(1)).
    if there.stdout.lstrip("\\").startswith(f"{digest} "):
        progress(delivery.size)
        return "has it already"
    folder, name = posixpath.split(delivery.path)
    command = shlex.join(["/bin/sh", "-c", _RECEIVE, "sh", folder, name, digest, f"{_mode(delivery.source):o}"])
    async with lines.line(whom).session(command, tidies_up=True) as receiver:
        with suppress(BrokenPipeError, asyncssh.ConnectionLost):
            await _send(delivery.source, receiver.stdin, progress)
        async with asyncio.timeout(DIGEST_TIMEOUT):
            said = (await receiver.stderr.read(LONGEST_WORDS)).decode(errors="replace").strip()
            await receiver.wait_closed()
    if receiver.returncode is None:
        raise LaunchError("the connection was lost")
    if receiver.returncode:
        raise LaunchError(printable(said.partition("\n")[0]) or "it failed")
    return "copied"


async def _send(source: Path, stdin: asyncssh.SSHWriter[bytes], progress: Callable[[int], None]) -> None:
    sent, blocks = 0, _blocks(source)
    while block := await asyncio.to_thread(next, blocks, b""):
        stdin.write(block)
        async with asyncio.timeout(STALL_TIMEOUT):
            await stdin.drain()
        sent += len(block)
        progress(sent)
    stdin.write_eof()


def _mode(path: Path) -> int:
    """The rights of the file that is brought, of which nobody but its owner has any to write."""
    try:
        return path.stat().st_mode & 0o755
    except OSError as error:
        raise LaunchError(f"{path}: {error.strerror}") from None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    """What is in a file. Raises LaunchError where it cannot be read."""
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as error:
        raise LaunchError(f"{path}: {error.strerror}") from None
