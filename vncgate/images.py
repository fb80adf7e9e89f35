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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import asyncssh

from vncgate import hostlist, tasks
from vncgate.errors import LaunchError
from vncgate.kinds import PATTERN, DesktopsSettings, SshPlace, Wrap
from vncgate.launchers.lines import Line
from vncgate.text import printable

AT_ONCE = 4
"""Hosts that are sent an image at the same time."""
BLOCK = 1 << 20
"""Bytes that are read and sent at once."""
DIGEST_TIMEOUT = 600.0
"""Seconds that a host may need to read an image that it has."""
STALL_TIMEOUT = 120.0
"""Seconds without any progress after which a copy has failed."""

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
    if wanted in kinds:
        kind = kinds[wanted]
        source = Path(kind.image)
    else:
        source = Path(wanted)
        named = [kind for kind in kinds.values() if posixpath.basename(kind.image) == source.name]
        named = [kind for kind in named if place in ("", kind.place)] or named
        if len({(kind.image, kind.place) for kind in named}) != 1:
            known = ", ".join(f"{name} ({kind.image})" for name, kind in kinds.items()) or "there is none"
            raise LaunchError(f"{wanted}: which kind's image is it? With wrap apptainer: {known}")
        kind = named[0]
    if not source.is_file():
        why = "is a folder; `apptainer build` makes a .sif of it" if source.is_dir() else "is not there"
        raise LaunchError(f"{source} {why}")
    if not posixpath.isabs(kind.image):
        raise LaunchError(f"image {kind.image!r}: only one with an absolute path can be brought to other hosts")
    name = place or kind.place
    if settings.place(name) is None:
        raise LaunchError(f"there is no place {name!r}")
    return Delivery(source, kind.image, name, source.stat().st_size)


def copy(delivery: Delivery) -> bool:
    """Bring an image to its path on this host, or in a folder that hosts share; returns whether it had to be copied.

    Raises OSError; then there is no half file.
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
        new.chmod(delivery.source.stat().st_mode & 0o755)
        new.replace(target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return True


async def deploy(
    delivery: Delivery, place: SshPlace, *, progress: Callable[[str, int], None], done: Callable[[str, str], None]
) -> dict[str, str]:
    """Bring an image to all hosts of a place; returns what went wrong, by host.

    `progress(host, bytes)` is told how much of it a host has, `done(host, words)` how it went well.
    """
    digest, free, failed = await asyncio.to_thread(_digest, delivery.source), asyncio.Semaphore(AT_ONCE), {}

    async def one(host: str) -> None:
        line = Line(place, (host, "" if PATTERN.search(place.user) else place.user))
        try:
            async with free:
                words = await _bring(await line.connection(), delivery, digest, lambda count: progress(host, count))
            done(host, words)
        except LaunchError as error:
            failed[host] = str(error)
        except TimeoutError:
            failed[host] = f"nothing went on for {STALL_TIMEOUT:g} s"
        except (asyncssh.Error, OSError) as error:
            failed[host] = f"the connection was lost: {printable(str(error))}"
        finally:
            await line.aclose()

    work = [tasks.spawn(one(host), f"image to {host}") for host in hostlist.expand(place.hosts)]
    try:
        await asyncio.gather(*work)
    finally:
        await tasks.end(*work)
    return failed


async def _bring(
    connection: asyncssh.SSHClientConnection, delivery: Delivery, digest: str, progress: Callable[[int], None]
) -> str:
    async with asyncio.timeout(DIGEST_TIMEOUT):
        there = await connection.run(f"sha256sum {shlex.quote(delivery.path)}")
    # A name with a backslash or a newline is told with a backslash before the line (sha256sum(1)).
    if str(there.stdout or "").lstrip("\\").startswith(f"{digest} "):
        progress(delivery.size)
        return "has it already"
    folder, name = posixpath.split(delivery.path)
    mode = f"{delivery.source.stat().st_mode & 0o755:o}"
    command = shlex.join(["/bin/sh", "-c", _RECEIVE, "sh", folder, name, digest, mode])
    async with connection.create_process(command, encoding=None) as process:
        with suppress(BrokenPipeError, asyncssh.ConnectionLost), delivery.source.open("rb") as file:
            await _send(file, process.stdin, progress)
        async with asyncio.timeout(DIGEST_TIMEOUT):
            ended = await process.wait()
    if ended.returncode is None:
        raise LaunchError("the connection was lost")
    if ended.returncode:
        said = ended.stderr if isinstance(ended.stderr, bytes) else b""
        raise LaunchError(printable(said.decode(errors="replace").strip().splitlines()[0]) if said else "it failed")
    return "copied"


async def _send(file: BinaryIO, stdin: asyncssh.SSHWriter[bytes], progress: Callable[[int], None]) -> None:
    sent = 0
    while block := await asyncio.to_thread(file.read, BLOCK):
        stdin.write(block)
        async with asyncio.timeout(STALL_TIMEOUT):
            await stdin.drain()
        sent += len(block)
        progress(sent)
    stdin.write_eof()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
