"""The place `docker`: desktops as containers of Docker or Podman on the gate's host.

A container needs no network: the gate reaches the desktop by a unix socket in the session's folder, which both see at
the same path. It is named after the nonce, and found again by that name. However many desktops there are, one question
is asked for all of them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vncgate import process, rfb
from vncgate.errors import LaunchError, SilentError, UnsureError
from vncgate.kinds import DockerPlace
from vncgate.launchers import report, users
from vncgate.launchers.base import Handle, Seen, Sighting, Spec
from vncgate.launchers.container import Person
from vncgate.launchers.homes import make_home
from vncgate.launchers.removal import remove_session
from vncgate.launchers.scripts import Listen, Scripts
from vncgate.launchers.share import Share, make_session, read_end, shorten
from vncgate.launchers.survey import Survey
from vncgate.model import Desktop, Secret
from vncgate.text import printable

INTERVAL = 1.0
"""Seconds between two questions for all containers."""
ENGINE_INTERVAL = 10.0
"""Seconds between two questions what engine it is: after a restart it may be another."""
PATIENCE = 20.0
"""Seconds that the engine has to answer a question."""
WORK_TIMEOUT = 60.0
"""Seconds that the engine has to start or to end a container."""
GRACE = 8
"""Seconds that a desktop's script has to end all by itself, before the engine kills it."""
ABOUT_TO_BE = 60.0
"""Seconds after which a container that a killed daemon had asked for will not come any more."""
PREFIX = "vncgate-"
"""With the nonce behind it, a container's name."""

_ENDED = ("exited", "dead", "stopped", "removing")
_CANNOT_RUN = (125, 126, 127)  # docker-run(1), podman-run(1): EXIT STATUS


@dataclass(frozen=True, slots=True)
class End:
    """How a container ended, as the engine tells."""

    status: int | None = None
    is_out_of_memory: bool = False
    error: str = ""

    @property
    def words(self) -> str:
        """Why it ended, where the engine knows that."""
        if self.is_out_of_memory and self.status:
            return "it used more memory than its limit allows, and was ended by the kernel"
        if self.error:
            return self.error
        if self.status == 137:
            return "its container was killed from outside (SIGKILL)"
        return ""


class Docker:
    """Docker or Podman as a place. The folders of desktops are in `folder`."""

    hosts: Sequence[str] = ()

    def __init__(self, name: str, settings: DockerPlace, folder: Path, scripts: Scripts) -> None:
        self._name = name
        self._settings = settings
        self._root = folder
        self._scripts = scripts
        self._share = Share(folder)
        self._homes: dict[Path, Share] = {}  # each its own: one whose file system hangs is in nobody else's way
        self._survey = Survey(self._containers, INTERVAL, name)
        self._engine = Survey(self._info, ENGINE_INTERVAL, f"what engine {name} is")
        self._started: dict[str, int] = {}  # by nonce: the answers to these questions know nothing of it yet
        self._asked_for: set[str] = set()  # names; the engine may have others', of another gate too
        self._ends: dict[str, End] = {}  # of those that have ended and are there

    async def submit(self, spec: Spec) -> Handle:
        """See Place. The image must be there: nothing is fetched when somebody waits for a desktop.

        Where the engine does not say whether it started, or nobody waits for that any more, `query()` will tell.
        """
        folder = self._root / spec.nonce
        inside, owner = await self._persons(spec.user)
        # The outside's home is not seen inside: without one of its own, the desktop has one that goes with it.
        inner = replace(spec, home=spec.home or f"{folder}/home")
        script = await self._scripts.files.do(self._scripts.desktop, inner, str(folder), Listen.SOCKET)
        files = {
            "desktop.sh": script.encode(errors="surrogateescape"),
            "passwd": rfb.password_file(spec.password),
        }
        # Beside the folder, not in it: the user who has the folder could put a link to another's file in its place.
        known = str(self._users(spec.nonce)) if inside.uid else ""
        render = self._scripts.container
        container = await self._scripts.files.do(render, spec, str(folder), self._settings, inside, known)
        if spec.home:
            home = Path(spec.home)
            await self._homes.setdefault(home, Share(home)).do(make_home, home, owner)
        handle = Handle(self._name, spec.account, spec.nonce, user=spec.user)
        try:
            await self._share.do(make_session, folder, files, owner)
            if known:
                await self._share.do(_write_users, known, inside, inner.home)
            done = await self._run(container.argv(_named(spec.nonce)), WORK_TIMEOUT)
            if done.status in _CANNOT_RUN:
                raise LaunchError(await self._refusal(container.image, done.stderr))
            if done.status:
                raise LaunchError(f"{self._command} run {process.describe_exit(done.status)}: {_last(done.stderr)}")
        except UnsureError:
            return handle
        except LaunchError:
            with suppress(LaunchError):
                await self.cancel(handle)
            with suppress(LaunchError):  # also where the engine cannot be reached
                await self._share.do(self._remove, spec.nonce)
            raise
        self._started[spec.nonce] = self._survey.asked
        return replace(handle, job=_last(done.stdout))

    async def query(self, handle: Handle) -> Sighting:
        """See Place."""
        folder, name = self._root / handle.nonce, _named(handle.nonce)
        self._asked_for.add(name)
        try:
            state = (await self._survey.look(self._started.get(handle.nonce, 0))).known().get(name)
            if state is None:
                return await self._share.do(_absent, folder, handle)
            if state in _ENDED:
                end = self._ends.get(name) or await self._end(name)
                said = (await self._share.log(folder, 1)).strip()
                return Sighting(Seen.GONE, reason=end.words, said=said, exit_status=end.status)
            await self._share.do(shorten, folder / "log")
            text = await self._share.do(read_end, folder / "report", report.LONGEST)
        except LaunchError as error:
            return Sighting(Seen.UNKNOWN, reason=str(error))
        reported = report.parse(text.decode(errors="replace"), handle.nonce)
        # That it serves is its own word; where is ours.
        return Sighting(Seen.RUNNING, Desktop(unix=f"{folder}/vnc.sock", owner=-1) if reported else None)

    async def cancel(self, handle: Handle) -> None:
        """See Place. Of a container that is not there the engine says so; what there is, is asked afterwards."""
        name = _named(handle.nonce)
        await self._run(["stop", "-t", str(GRACE), name], WORK_TIMEOUT)
        removed = await self._run(["rm", "--force", "--volumes", name], WORK_TIMEOUT)
        if name in (await self._survey.look(self._survey.asked)).known():
            raise LaunchError(f"{self._command} does not remove {name}: {_last(removed.stderr)}")
        await self._share.do(self._remove, handle.nonce)
        self._started.pop(handle.nonce, None)
        self._asked_for.discard(name)

    async def logs(self, handle: Handle, lines: int = 200) -> str:
        """See Place."""
        return await self._share.log(self._root / handle.nonce, lines)

    async def rekey(self, handle: Handle, password: Secret) -> None:
        """See Place."""
        await self._share.rekey(self._root / handle.nonce, password)

    async def aclose(self) -> None:
        """See Place."""
        await self._survey.aclose()
        await self._engine.aclose()

    @property
    def _command(self) -> str:
        return self._settings.command[0]

    def _users(self, nonce: str) -> Path:
        return self._root / f"{nonce}.users"

    def _remove(self, nonce: str) -> None:
        remove_session(self._root / nonce)
        self._users(nonce).unlink(missing_ok=True)

    async def _containers(self) -> dict[str, str]:
        """The state of each container, by its name; how those that were asked for have ended is looked up for all."""
        argv = ["ps", "--all", f"--filter=name={PREFIX}", "--format={{.Names}} {{.State}}"]
        said = await self._ask(argv)
        # Docker says `exited`, Podman `Exited (0) 3 seconds ago`.
        states = {words[0]: words[1].lower() for line in said.splitlines() if len(words := line.split()) > 1}
        self._ends = {name: end for name, end in self._ends.items() if name in states}
        new = [name for name in self._asked_for - self._ends.keys() if states.get(name) in _ENDED]
        if new:
            with suppress(LaunchError):  # each is asked about by itself, then
                self._ends |= await self._inspect(new)
        return states

    async def _end(self, name: str) -> End:
        """How one ended that could not be looked up with others: the engine may know of it no more than that it did."""
        found: Mapping[str, End] = {}
        with suppress(LaunchError):
            found = await self._inspect([name])
        untold = End(error=f"its container has ended, and {self._command} does not tell how")
        return self._ends.setdefault(name, found.get(name, untold))

    async def _inspect(self, names: Sequence[str]) -> dict[str, End]:
        form = "--format={{.Name}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}"
        done = await self._run(["container", "inspect", form, *names], PATIENCE)
        found = {}
        for line in done.stdout.splitlines():  # also where one of them, or all, went since they were listed
            name, status, is_out_of_memory, error = (*line.split(" ", 3), "", "", "")[:4]
            if status.isdecimal():
                found[name.removeprefix("/")] = End(int(status), is_out_of_memory == "true", printable(error))
        return found

    async def _persons(self, user: str) -> tuple[Person, tuple[int, int] | None]:
        """Whom the container runs as, and whose its files are (None: ours)."""
        person = await self._share.do(_person, user, self._settings.may_be_root)
        if person.uid != os.geteuid():
            return person, (person.uid, person.gid)
        return person if person.uid == 0 else as_engine(person, (await self._engine.look()).known()), None

    async def _info(self) -> Mapping[str, object]:
        said = await self._ask(["info", "--format={{json .}}"])
        with suppress(ValueError):
            if isinstance(info := json.loads(said), dict):
                return info
        raise LaunchError(f"{self._command} info: this is no JSON object: {_last(said)}; is it Docker or Podman?")

    async def _refusal(self, image: str, said: str) -> str:
        """Why a container could not be made, in words."""
        await self._ask(["ps", "--quiet", "--last=1"])  # an engine that cannot be reached says so itself
        found = await self._run(["image", "inspect", "--format={{.Id}}", image], PATIENCE)
        if not found.status:
            return f"{self._command}: {_last(said)}"
        load = f"`{self._command} load --input FILE`"
        if image.startswith("localhost/"):  # no registry has it
            return f"the image {image} is not on this host: build it there, or bring it with {load}"
        return f"the image {image} is not on this host: `{self._command} pull {image}` brings it, or {load}"

    async def _ask(self, argv: Sequence[str]) -> str:
        """What it says to a question that every engine that is there can answer. Raises SilentError."""
        done = await self._run(argv, PATIENCE)
        if done.status:
            raise SilentError(f"{self._command} {argv[0]} {process.describe_exit(done.status)}: {_last(done.stderr)}")
        return done.stdout

    async def _run(self, argv: Sequence[str], timeout: float) -> process.Result:
        """Run the engine's command. Raises LaunchError when there is none, UnsureError when it does not end in time."""
        try:
            return await process.run([*self._settings.command, *argv], timeout=timeout)
        except TimeoutError:
            raise UnsureError(f"{self._command} {argv[0]} does not answer within {timeout:g} s") from None
        except FileNotFoundError as error:
            raise LaunchError(f"{self._command}: {error.strerror}; is Docker or Podman installed?") from None
        except OSError as error:
            raise LaunchError(f"{self._command} {argv[0]}: {error.strerror}") from None


def as_engine(own: Person, info: Mapping[str, object]) -> Person:
    """Ourselves, as an engine knows us that may be without root: as `info --format={{json .}}` says of it."""
    host = info.get("host")
    security = host.get("security") if isinstance(host, dict) else None
    if isinstance(security, dict) and security.get("rootless"):
        return replace(own, groups=(), userns="keep-id")
    options = info.get("SecurityOptions")
    if isinstance(options, list) and "name=rootless" in options:
        return Person("root", 0, 0)
    return own


def _named(nonce: str) -> str:
    return f"{PREFIX}{nonce}"


def _last(said: str) -> str:
    """The last line that a command wrote; where to find help is no answer."""
    lines = [line for line in said.splitlines() if line.strip() and "--help" not in line]
    return printable(lines[-1].strip()) if lines else "it said nothing"


def _absent(folder: Path, handle: Handle) -> Sighting:
    """There is no container: it may be about to be, when the daemon that asked for it was killed."""
    try:
        age = time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return Sighting(Seen.GONE)
    if not handle.job and age < ABOUT_TO_BE:
        return Sighting(Seen.RUNNING)
    return Sighting(Seen.GONE, reason="its container was removed from outside")


def _write_users(path: str, person: Person, home: str) -> None:
    """The users that the inside knows (passwd(5)): images do not know ours, and D-Bus ends without a name of its user.

    It is ours, and only to be read by others.
    """
    lines = "root:x:0:0:root:/root:/bin/bash", f"{person.name}:x:{person.uid}:{person.gid}::{home}:/bin/bash"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "w") as file:  # noqa: PTH123 (a descriptor, no path)
        os.fchmod(descriptor, 0o644)
        file.write("\n".join(lines) + "\n")


def _person(user: str, may_be_root: bool) -> Person:
    """A user of this host, with all groups; ourselves where `user` is empty. It may ask a directory service.

    Raises LaunchError.
    """
    its = users.find(user, may_be_root=may_be_root)
    groups = os.getgrouplist(its.pw_name, its.pw_gid)
    return Person(its.pw_name, its.pw_uid, its.pw_gid, tuple(gid for gid in groups if gid != its.pw_gid))
