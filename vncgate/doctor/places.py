"""Whether each place could start a desktop: its hosts and programs, cluster, engine, images. Nothing is started."""

from __future__ import annotations

import asyncio
import os
import pwd
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from vncgate import hostlist, tasks
from vncgate.doctor.base import Case, Finding, Result, count, output, some
from vncgate.errors import LaunchError
from vncgate.kinds import AnyPlace, DockerPlace, Kind, SlurmPlace, SshLogin, SshPlace, Wrap
from vncgate.launchers.base import expand

STEP = "places"
AT_ONCE = 16
"""Hosts that are asked at the same time."""
ASK_TIMEOUT = 20.0
"""Seconds that a host has to say what it has."""
PACKAGES = {
    "Xvnc": "apt install tigervnc-standalone-server (RHEL: dnf install tigervnc-server)",
    "bash": "install bash",
    "xprop": "apt install x11-utils (RHEL: dnf install xprop); else a session may begin before its window manager",
    "dbus-run-session": "apt install dbus-daemon; without it sessions have no D-Bus of their own",
    "apptainer": "install Apptainer, on the PATH of a shell that is no login shell",
}
WISHED = ("xprop", "dbus-run-session")
"""Without these a desktop starts, and may lack something."""

# Says which of its arguments are not there: files, or programs on PATH.
_LOOK = """
for name; do
  case $name in
    /*) test -e "$name" ;;
    Xvnc) command -v Xtigervnc || command -v Xvnc ;;
    *) command -v -- "$name" ;;
  esac >/dev/null 2>&1 || printf 'missing %s\\n' "$name"
done
echo done
"""

Missing = Mapping[str, Sequence[str]]
"""What is not there, by host."""


async def check(case: Case) -> list[Finding]:
    """Looks at every place that a kind names, as whoever runs this: best the gate's own user, or root."""
    desktops = case.settings.desktops
    findings: list[Finding] = []
    for name in dict.fromkeys(kind.place for kind in desktops.kinds.values()):
        kinds = {key: kind for key, kind in desktops.kinds.items() if kind.place == name}
        if place := desktops.place(name):
            findings += await _place(name, place, kinds, case)
    return [*findings, *_other_user(findings, case)]


async def _place(name: str, place: AnyPlace, kinds: Mapping[str, Kind], case: Case) -> list[Finding]:
    default = case.settings.desktops.default_kind
    accounts = [it.name for it in case.roster.accounts if it.desktop is None and (it.kind or default) in kinds]
    try:
        match place:
            case SshPlace():
                return [*await _ssh(name, place, kinds, expand(place.user, next(iter(accounts), "")), case)]
            case SlurmPlace():
                return [*judge_users(name, place.user, accounts), *await _slurm(name, place, kinds)]
            case DockerPlace():
                return [*judge_users(name, place.user, accounts), *await _docker(name, place, kinds)]
            case _:
                here = {"this host": await _missing_here(needs(kinds))}
                return [*judge_users(name, place.user, accounts), *judge_missing(name, here, kinds, case)]
    except (LaunchError, TimeoutError) as error:
        case.told.append(str(error))
        return [Finding(STEP, Result.ERROR, f"{name}: {error}", "mend it; the gate would fail in the same way")]


def needs(kinds: Mapping[str, Kind]) -> list[str]:
    """What these kinds need on the host that they run on: programs, and files with their whole path."""
    found: dict[str, None] = {}
    for kind in kinds.values():
        if kind.wrap is Wrap.APPTAINER:
            found |= dict.fromkeys(("apptainer", kind.image))
            continue
        found |= dict.fromkeys(("Xvnc", "bash", "dbus-run-session"))
        if kind.window_manager:
            found["xprop"] = None
        if not kind.setup:  # which may be what brings the programs
            found |= dict.fromkeys(words[0] for words in (kind.window_manager, kind.command) if words)
    return list(found)


# ---- what follows


def judge_users(name: str, user: str, accounts: Sequence[str]) -> Iterator[Finding]:
    """Desktops of Unix users that are not there do not start."""
    wanted = dict.fromkeys(expand(user, account) for account in accounts) if user else ()
    if lost := [each for each in wanted if not _is_user(each)]:
        message = f"{name}: {count(len(lost), 'Unix user')} not on this host: {some(lost)}"
        yield Finding(STEP, Result.ERROR, message, f"useradd them, or mend `user` in [desktops.places.{name}]")


def judge_missing(name: str, missing: Missing, kinds: Mapping[str, Kind], case: Case) -> Iterator[Finding]:
    """What hosts lack, the same of several hosts as one finding."""
    images = {kind.image: key for key, kind in kinds.items() if kind.wrap is Wrap.APPTAINER}
    lacking: dict[str, list[str]] = defaultdict(list)
    for host, names in missing.items():
        for each in names:
            lacking[each].append(host)
    for each, hosts in lacking.items():
        what = f"image {each}" if each in images else each
        advice = PACKAGES.get(
            each, f"install it there, or mend the kind's command: [desktops.kinds.{next(iter(kinds))}]"
        )
        if each in images:
            config = f" --config {shlex.quote(str(case.config))}" if case.config else ""
            advice = f"vncgate images deploy {images[each]}{config}"
        result = Result.WARNING if each in WISHED else Result.ERROR
        yield Finding(STEP, result, f"{name}: there is no {what} on {some(hosts)}", advice)
    if good := [host for host, names in missing.items() if not names]:
        yield Finding(STEP, Result.OK, f"{name}: {some(good)}: all is there ({some(needs(kinds))})")


def judge_unreached(name: str, why: Mapping[str, str], login: SshLogin, user: str) -> Iterator[Finding]:
    """Hosts to which no connection came about, as `user`; those with one reason as one finding."""
    groups: dict[str, list[str]] = defaultdict(list)
    for host, words in why.items():
        groups[words.replace(host, "HOST")].append(host)
    for words, hosts in groups.items():
        message = words.replace("HOST", hosts[0]) if len(hosts) == 1 else f"{some(hosts)}, each: {words}"
        says_what_to_do = any(part in words for part in ("there is no key file", "has another key", "the key of"))
        advice = (
            "do as it says, and look again"
            if says_what_to_do
            else f"see for yourself: {_by_hand(login, hosts[0], user)}"
        )
        yield Finding(STEP, Result.ERROR, f"{name}: {message}", advice)


def _by_hand(login: SshLogin, host: str, user: str) -> str:
    """The command that logs in as the gate does."""
    words = ["ssh"]
    if login.port != SshLogin.model_fields["port"].default:
        words += ["-p", str(login.port)]
    if login.key:
        words += ["-i", str(login.key)]
    if login.known_hosts:
        words += ["-o", f"UserKnownHostsFile={login.known_hosts}"]
    return shlex.join([*words, f"{user}@{host}" if user else host, "true"])


def judge_partitions(
    name: str, place: SlurmPlace, kinds: Mapping[str, Kind], there: Sequence[str]
) -> Iterator[Finding]:
    """Partitions that jobs would ask for."""
    wanted: dict[str, str] = {}
    for key, kind in kinds.items():
        for size in ("", *kind.sizes):
            if partition := kind.sized(size).partition or place.partition:
                wanted.setdefault(partition, key)
    for text, key in wanted.items():
        if lost := [each for each in text.split(",") if each not in there]:
            message = f"{name}: there is no partition {', '.join(lost)} (kind {key}); there are {some(there)}"
            yield Finding(STEP, Result.ERROR, message, f"mend `partition` of the kind, its sizes, or the place {name}")


def _other_user(findings: Sequence[Finding], case: Case) -> Iterator[Finding]:
    """Where something is wrong, and the gate is somebody else, who may have other keys, images and rights."""
    if case.status is None or all(finding.result is Result.OK for finding in findings):
        return
    with suppress(OSError):
        gates = os.stat(f"/proc/{case.status['pid']}").st_uid  # noqa: PTH116
        if gates != os.geteuid():
            message = f"these were asked as {_user(os.geteuid())}, while the gate runs as {_user(gates)}"
            advice = f"for what the gate itself would see: sudo -u {_user(gates)} vncgate doctor {case.command}"
            yield Finding(STEP, Result.WARNING, message, advice)


# ---- asking


async def _missing_here(names: Sequence[str]) -> list[str]:
    said = await output("sh", "-c", _LOOK, "sh", *names)
    return _missing(said.lines) if said else ["sh"]


async def _ssh(name: str, place: SshPlace, kinds: Mapping[str, Kind], user: str, case: Case) -> Sequence[Finding]:
    from vncgate.launchers.lines import Lines  # asyncssh takes a tenth of a second

    lines, room = Lines(place), asyncio.Semaphore(AT_ONCE)
    missing: dict[str, list[str]] = {}
    why: dict[str, str] = {}

    async def ask(host: str) -> None:
        argv = ["sh", "-c", _LOOK, "sh", *needs(kinds)]
        try:
            async with room:
                said = await lines.run((host, user), argv, timeout=ASK_TIMEOUT, stdin="", env={})
            missing[host] = _missing(said.stdout.splitlines())
        except TimeoutError:
            why[host] = f"{host} did not say within {ASK_TIMEOUT:g} s what it has"
        except (LaunchError, OSError) as error:
            why[host] = str(error)

    work = [tasks.spawn(ask(host), f"look at {host}") for host in hostlist.expand(place.hosts)]
    try:
        await asyncio.gather(*work)
    finally:
        await tasks.end(*work)
        await lines.aclose()
    case.told += why.values()
    return [*judge_unreached(name, why, place, user), *judge_missing(name, missing, kinds, case)]


async def _slurm(name: str, place: SlurmPlace, kinds: Mapping[str, Kind]) -> Sequence[Finding]:
    from vncgate.launchers import slurm

    there = await slurm.partitions(place)
    findings = [*judge_partitions(name, place, kinds, there)]
    if not os.access(place.folder, os.W_OK | os.X_OK):
        message = f"{name}: the shared folder {place.folder} is not there, or not for us to write to"
        findings.append(
            Finding(STEP, Result.ERROR, message, f"mkdir -p {place.folder}, and give it to the gate's user")
        )
    if not findings:
        message = (
            f"{name}: the cluster answers, {count(len(there), 'partition')}; its nodes are seen by the first desktop"
        )
        findings.append(Finding(STEP, Result.OK, message))
    return findings


async def _docker(name: str, place: DockerPlace, kinds: Mapping[str, Kind]) -> Sequence[Finding]:
    engine = place.command[0]
    said = await output(*place.command, "ps", "--quiet", "--last=1")
    if said is None:
        return [Finding(STEP, Result.ERROR, f"{name}: there is no {engine} here", f"install it: apt install {engine}")]
    if said.status:
        advice = f"does its service run? may this user ask it? try: {shlex.join(place.command)} info"
        return [Finding(STEP, Result.ERROR, f"{name}: {engine} does not answer: {said.last}", advice)]
    findings = []
    for image in dict.fromkeys(kind.image for kind in kinds.values()):
        found = await output(*place.command, "image", "inspect", "--format={{.Id}}", image)
        if found is None or found.status:
            bring = f"{engine} load --input FILE" if image.startswith("localhost/") else f"{engine} pull {image}"
            message = f"{name}: the image {image} is not here"
            findings.append(Finding(STEP, Result.ERROR, message, f"{bring}; or build it: docs/places/docker.md"))
    good = f"{name}: {engine} answers, and has the images"
    return findings or [Finding(STEP, Result.OK, good)]


def _missing(lines: Sequence[str]) -> list[str]:
    if not any(line.strip() == "done" for line in lines):
        raise LaunchError(f"no shell answers: {lines[-1] if lines else 'it says nothing'}")
    return [line.removeprefix("missing ") for line in lines if line.startswith("missing ")]


def _is_user(name: str) -> bool:
    return _known(lambda: pwd.getpwnam(name)) is not None


def _user(uid: int) -> str:
    entry = _known(lambda: pwd.getpwuid(uid))
    return entry.pw_name if entry else str(uid)


def _known(find: Callable[[], pwd.struct_passwd]) -> pwd.struct_passwd | None:
    try:
        return find()
    except (KeyError, ValueError):
        return None
