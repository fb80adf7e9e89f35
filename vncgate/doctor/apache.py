"""Apache as its own commands tell of it: version, modules, config test, what passes our websockets on, its limits.

What counts is read from the configuration as Apache itself has resolved it (see httpd); mod_info, which prints that, is
loaded for the one run that asks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from vncgate.doctor.base import AS_ROOT, Case, Finding, Output, Result, count, is_root, output, some, which
from vncgate.doctor.httpd import Directive, Pass, idle_limit, read_dump, read_passes, value
from vncgate.model import Account
from vncgate.render.reach import Reach
from vncgate.settings import Access, Settings

STEP = "Apache"
TUNNELS_ITSELF = (2, 4, 47)
"""The first version whose mod_proxy_http passes websockets on without mod_proxy_wstunnel (mod_proxy_http, Notes)."""
NEEDED = ("proxy", "proxy_http")
ASKED_FOR = ("ssl", "headers", "setenvif", "deflate")
"""Modules that our example virtual hosts need beside those."""
MOD_INFO = ("/usr/lib/apache2/modules/mod_info.so", "/usr/lib64/httpd/modules/mod_info.so")
"""Where Debian and RHEL have it."""
THREADS = 25
SERVER_LIMIT = 16
"""Defaults of mpm_event."""
PREFORK_WORKERS = 256
SPARE = 50
"""Requests at once that a workshop needs beside two for each participant (the desktop, and the landing page)."""


async def check(case: Case) -> list[Finding]:
    """All about Apache, as far as it is on this machine and may be seen."""
    command, version = await _find(case.settings)
    if command is None:
        advice = "where Apache is on another machine, run this there too; else name its command in apache.configtest"
        return [Finding(STEP, Result.SKIPPED, "there is none on this machine", advice)]
    modules = await output(*command, "-M")
    loaded = module_names(modules) if modules else frozenset()
    findings = [*judge_version(version, loaded)]
    if tested := await _tested(case.settings, command):
        findings.append(tested)
        if tested.result is not Result.OK:  # what else it says is about a configuration that it would not load
            return findings
    findings += judge_modules(loaded, debian=which("a2enmod") is not None)
    directives = read_dump(await _dump(command))
    if not directives:
        advice = "look yourself: grep -rEi 'ProxyPass|Timeout|MaxRequestWorkers' /etc/apache2 /etc/httpd/conf*"
        message = "Include, Timeout, MaxRequestWorkers: Apache could not list its configuration (mod_info)"
        return [*findings, Finding(STEP, Result.SKIPPED, message, advice)]
    passes = list(read_passes(directives, _here(case.settings)))
    findings += judge_passes(passes, case)
    findings += judge_https(directives, passes, case)
    findings += judge_timeout(directives, passes, case)
    findings += judge_workers(directives, loaded, len(case.roster))
    return findings


def version_of(said: Output) -> tuple[int, ...]:
    """The version that `-V` tells; empty where it tells none."""
    match = re.search(r"Server version: Apache/([0-9]+)\.([0-9]+)\.([0-9]+)", "\n".join(said.lines))
    return tuple(map(int, match.groups())) if match else ()


def module_names(said: Output) -> frozenset[str]:
    """The modules that `-M` lists, without `_module`."""
    return frozenset(re.findall(r"^\s+(\w+)_module \(", "\n".join(said.lines), re.MULTILINE))


# ---- what follows


def judge_version(version: tuple[int, ...], loaded: frozenset[str]) -> Iterator[Finding]:
    """Ours are written for 2.4.47; an older one needs mod_proxy_wstunnel."""
    text = ".".join(map(str, version))
    if not version:
        yield Finding(
            STEP, Result.WARNING, "it does not tell its version", f"see that it is {_dotted(TUNNELS_ITSELF)} or newer"
        )
    elif version >= TUNNELS_ITSELF:
        yield Finding(STEP, Result.OK, f"version {text}")
    elif "proxy_wstunnel" in loaded:
        yield Finding(
            STEP, Result.WARNING, f"version {text} is old", f"upgrade it to {_dotted(TUNNELS_ITSELF)} or newer"
        )
    else:
        advice = f"upgrade it to {_dotted(TUNNELS_ITSELF)} or newer, or load mod_proxy_wstunnel"
        yield Finding(STEP, Result.ERROR, f"version {text} passes no websockets on by itself", advice)


def judge_modules(loaded: frozenset[str], *, debian: bool) -> Iterator[Finding]:
    """Those that the websockets and our virtual hosts need."""
    if not loaded:
        advice = "" if is_root() else AS_ROOT
        yield Finding(STEP, Result.SKIPPED, "it does not list its modules", advice)
        return
    missing = [name for name in NEEDED if name not in loaded]
    wished = [name for name in ASKED_FOR if name not in loaded]
    for names, result, words in (
        (missing, Result.ERROR, "nothing is passed on without"),
        (wished, Result.WARNING, "our virtual host wants"),
    ):
        if names:
            how = f"a2enmod {' '.join(names)} && systemctl restart apache2" if debian else "LoadModule lines for them"
            yield Finding(STEP, result, f"modules are missing, {words}: {', '.join(names)}", how)
    if not missing and not wished:
        yield Finding(STEP, Result.OK, f"modules: {', '.join((*NEEDED, *ASKED_FOR))}")


def judge_passes(passes: Sequence[Pass], case: Case) -> Iterator[Finding]:
    """Every account's public path must lead to a port of its own; the first line that fits is the one taken."""
    settings = case.settings
    include = f"in the virtual host, before other ProxyPass lines: Include {settings.apache.snippet or 'SNIPPET'}"
    write = f"vncgate render apache {case.command} -o {settings.apache.snippet or 'SNIPPET'}"
    ports = {settings.accounts_port, *(account.port for account in case.roster.accounts)} - {0, None}
    hosts = {each.at.host for each in passes if each.port in ports}
    if not hosts:
        if settings.apache.snippet and not settings.apache.snippet.exists():
            message = f"{settings.apache.snippet} is not there, so nothing passes websockets on"
            yield Finding(STEP, Result.ERROR, message, f"{write}; then: systemctl reload apache2")
        else:
            message = "nothing in its configuration passes websockets on to our ports: is our snippet included?"
            yield Finding(STEP, Result.ERROR, message, f"{include} ({write} makes it)")
        return
    lost: list[str] = []
    taken: dict[Pass, list[str]] = {}
    for account in case.roster.accounts:
        first = _first(account, passes, hosts, settings)
        if first is None:
            lost.append(account.name)
        elif first.port not in (settings.accounts_port, account.port):
            taken.setdefault(first, []).append(account.name)
    if lost:
        message = f"{count(len(lost), 'account')} not passed on: {some(lost)}"
        yield Finding(STEP, Result.ERROR, message, f"{write}; then: systemctl reload apache2")
    for each, names in taken.items():
        message = f"{each.at.place} ({each.at.name} {each.pattern}) takes the websockets of {some(names)}"
        yield Finding(
            STEP, Result.ERROR, message, f"our Include must stand above that line; or our file is old: {write}"
        )
    if not lost and not taken:
        files = sorted({each.at.file for each in passes if each.port in ports})
        yield Finding(STEP, Result.OK, f"passes the websockets on: {some(files)}")


def judge_https(directives: Sequence[Directive], passes: Sequence[Pass], case: Case) -> Iterator[Finding]:
    """Where people sign in over https, each virtual host must tell how a browser came, whatever that says itself."""
    settings = case.settings
    if settings.access is not Access.SEAT or not settings.public_url.startswith("https:"):
        return
    ports = {settings.accounts_port, *(account.port for account in case.roster.accounts)} - {0, None}
    said = {each.host for each in directives if each.name == "requestheader" and _tells(each.words)}
    silent = {each.at.host: each.at.place for each in passes if each.port in ports and not {each.at.host, 0} & said}
    advice = "in that virtual host: RequestHeader set X-Forwarded-Proto https (and a2enmod headers); then reload Apache"
    for place in silent.values():
        message = f"the virtual host of {place} does not say that browsers came over https, so nobody can sign in"
        yield Finding(STEP, Result.ERROR, message, advice)
    if said and not silent:
        yield Finding(STEP, Result.OK, "it says that browsers came over https")


def judge_timeout(directives: Sequence[Directive], passes: Sequence[Pass], case: Case) -> Iterator[Finding]:
    """A tunnel on which nothing is sent ends after timeout= of its line, else ProxyTimeout, else Timeout."""
    settings = case.settings
    ping = settings.ping_interval
    ports = {settings.accounts_port, *(account.port for account in case.roster.accounts)} - {0, None}
    limits = [idle_limit(directives, each.at) for each in passes if each.port in ports]
    if not limits:
        return
    least, place = min(limits)
    advice = f"ping_interval = {max(1, least // 3)} in the settings, or timeout={int(3 * ping)} on the ProxyPass line"
    where = f"{least} s ({place})"
    if least <= ping:
        message = f"it ends quiet websockets after {where}, and we ping only every {ping:g} s"
        yield Finding(STEP, Result.ERROR, message, advice)
    elif least < 2 * ping:
        message = f"it ends quiet websockets after {where}: one lost ping of ours (every {ping:g} s) cuts a desktop"
        yield Finding(STEP, Result.WARNING, message, advice)
    else:
        yield Finding(STEP, Result.OK, f"quiet websockets live {least} s, we ping every {ping:g} s")


def judge_workers(directives: Sequence[Directive], loaded: frozenset[str], accounts: int) -> Iterator[Finding]:
    """Each open desktop, and each open landing page, holds one worker for as long as it is open."""
    if "mpm_prefork" in loaded:
        limit, place = value(directives, "maxrequestworkers", (PREFORK_WORKERS, ""))
        most, threads = limit, 1
    else:
        threads, _ = value(directives, "threadsperchild", (THREADS, ""))
        servers, _ = value(directives, "serverlimit", (SERVER_LIMIT, ""))
        most = servers * threads
        limit, place = value(directives, "maxrequestworkers", (servers * threads, ""))
    wanted = 2 * accounts + SPARE
    rounded = -(-max(wanted, limit) // threads) * threads
    lines = f"MaxRequestWorkers {rounded}, ServerLimit {max(SERVER_LIMIT, 2 * rounded // threads)}"
    advice = f"in {place.rpartition(':')[0] or 'its configuration'}: {lines}; then restart Apache, before the class"
    serves = f"{limit} at once (MaxRequestWorkers)"
    if limit < wanted:
        message = f"it serves {serves}, {count(accounts, 'participant')} need {wanted}: two each and {SPARE} to spare"
        yield Finding(STEP, Result.ERROR if limit < accounts else Result.WARNING, message, advice)
    elif threads > 1 and most < 2 * wanted:
        message = (
            f"reloads with open desktops need twice the room: ServerLimit allows {most} threads, {wanted} are used"
        )
        yield Finding(STEP, Result.WARNING, message, advice)
    else:
        yield Finding(STEP, Result.OK, f"it serves {serves}, {count(accounts, 'participant')} need {wanted}")


# ---- asking it


async def _find(settings: Settings) -> tuple[tuple[str, ...] | None, tuple[int, ...]]:
    """The command that takes Apache's own flags, and its version. RHEL's apachectl takes none, its httpd does."""
    test = settings.apache.configtest
    own = test[:-1] if test and test[-1] in ("configtest", "-t") else ()
    for command in (own, ("apachectl",), ("httpd",), ("apache2ctl",)):
        if command and (said := await output(*command, "-V")) and said.status == 0:
            return command, version_of(said)
    return None, ()


async def _tested(settings: Settings, command: Sequence[str]) -> Finding | None:
    test = settings.apache.configtest or (*command, "-t")
    said = await output(*test)
    typed = " ".join(test)
    if said is None:
        return Finding(STEP, Result.WARNING, f"there is no {test[0]}", "name the right command in apache.configtest")
    if said.status == 0:
        return Finding(STEP, Result.OK, "config test passed")
    if not is_root():
        message = "config test: only root may read its certificates"
        return Finding(STEP, Result.SKIPPED, message, AS_ROOT)
    wrong = next((line for line in said.lines if "error" in line.lower()), said.last)
    return Finding(STEP, Result.ERROR, f"config test failed: {wrong.strip()}", f"mend it until this passes: {typed}")


async def _dump(command: Sequence[str]) -> Sequence[str]:
    module = next(filter(os.path.exists, MOD_INFO), "modules/mod_info.so")
    said = await output(*command, "-C", f"LoadModule info_module {module}", "-t", "-D", "DUMP_CONFIG")
    return said.lines if said and said.status == 0 else ()


# ---- small things


def _here(settings: Settings) -> set[str]:
    return {"127.0.0.1", "::1", "localhost", settings.listen}


def _first(account: Account, passes: Sequence[Pass], hosts: set[int], settings: Settings) -> Pass | None:
    path = Reach(settings, fronted=True).websocket(account, "/")
    return next((each for each in passes if each.at.host in hosts and each.fits(path)), None)


def _tells(words: Sequence[str]) -> bool:
    """Whether a RequestHeader says how browsers came, whatever they say themselves (mod_headers)."""
    return [word.lower() for word in words[:2]] == ["set", "x-forwarded-proto"]


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
