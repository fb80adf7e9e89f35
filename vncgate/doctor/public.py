"""The way that participants come: the public address, its certificate and clock, the landing page, and a desktop.

A sample of accounts logs in through it, each once, and only those whose desktop has just let us in directly: so what
fails here fails on the way, and nothing is added to what VNC servers count.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from vncgate.doctor.base import Case, Finding, Result, count, some
from vncgate.model import Account
from vncgate.rehearsal import Plan, Play, Rehearsal, Target
from vncgate.render.reach import public_websocket

STEP = "public URL"
DAYS_LEFT = 8
"""Days that a certificate should last: the workshop's week, and one more."""
DRIFT = 5.0
"""Seconds that the clocks of the web server and of this machine may differ."""
PATIENCE = 15.0
"""Seconds for a page, and for a login all the way."""
A_SECOND = 20
"""Logins that begin in a second."""
OUR_PAGE = 'id="accounts"'
"""What every landing page of ours has (templates/landing.html)."""

STATUS_ADVICE = {
    403: "ProxyPreserveHost On in the virtual host; or add the site to the setting origins",
    404: "include our snippet in the virtual host of this name, before other ProxyPass lines, and reload Apache",
    500: "Apache's error log says why",
    502: "is the gate running (vncgate status)? on RHEL: setsebool -P httpd_can_network_connect on",
    503: "is the gate running (vncgate status)? on RHEL: setsebool -P httpd_can_network_connect on",
}
"""What to do about a status that is not the right one."""
OTHER_STATUS = "load mod_proxy_http of 2.4.47 or newer, or mod_proxy_wstunnel; Apache's error log says more"


@dataclass(frozen=True, slots=True)
class Page:
    """What the landing page's address answered; `clock` is the server's Date less ours, in seconds."""

    status: int
    text: str
    url: str
    clock: float | None


async def check(case: Case) -> list[Finding]:
    """All of it; nothing without an address."""
    if not case.url:
        return [Finding(STEP, Result.SKIPPED, "not given", "add --url https://THE.HOST/ as participants type it")]
    parts = urlsplit(case.url)
    trusted, findings = True, []
    if parts.scheme == "https":
        names = ssl.create_default_context()
        found = await _certificate(parts.hostname or "", parts.port or 443, names)
        findings += [judge_certificate(found, time.time(), parts.hostname or "")]
        trusted = not isinstance(found, Exception)
        if isinstance(found, OSError) and not isinstance(found, ssl.SSLError):
            return findings  # nobody is there
    else:
        advice = "let Apache have a certificate (certbot --apache, or your site's), and use https://"
        findings += [Finding(STEP, Result.WARNING, "without TLS all can be read on the way", advice)]
    # A page is looked at whatever the certificate is; a login goes to no server that we cannot trust.
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
        try:
            page = await _page(session, case.url, trusted)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            advice = "is Apache running, and this name its own? curl -v " + case.url
            return [*findings, Finding(STEP, Result.ERROR, f"the landing page: {_said(error)}", advice)]
        findings += judge_page(page, case.roster.accounts)
        if not trusted:
            message = "desktops: no password is tried where the certificate is not trusted"
            return [*findings, Finding(STEP, Result.SKIPPED, message, "mend the certificate first")]
        return [*findings, *await _desktops(case)]


# ---- what follows


def judge_certificate(found: Mapping[str, Any] | Exception, now: float, host: str) -> Finding:
    """`found` is the certificate as ssl.SSLSocket.getpeercert() gives it, or why there is none that can be trusted."""
    match found:
        case ssl.SSLCertVerificationError():
            words = (found.verify_message or str(found)).rstrip(".")
            if found.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED (openssl-verification-options(1))
                return Finding(
                    STEP, Result.ERROR, "the certificate has expired", "renew it: certbot renew; reload Apache"
                )
            if "mismatch" in words or "not valid for" in words:
                advice = f"have a certificate made for {host}, or use the name that it is for"
                return Finding(STEP, Result.ERROR, f"the certificate is not for {host}", advice)
            advice = (
                "SSLCertificateFile must have the whole chain (fullchain.pem), from an authority that browsers know"
            )
            return Finding(STEP, Result.ERROR, f"browsers do not trust the certificate: {words}", advice)
        case ssl.SSLError():
            advice = f"does {host} serve TLS on this port? SSLEngine on, in the virtual host"
            return Finding(STEP, Result.ERROR, f"no TLS: {_said(found)}", advice)
        case Exception():
            return Finding(
                STEP, Result.ERROR, f"{host} {_said(found)}", "is Apache running? is the name right (getent hosts)?"
            )
    days = (ssl.cert_time_to_seconds(str(found["notAfter"])) - now) / 86400
    if days < DAYS_LEFT:
        message = f"the certificate ends in {days:.0f} days"
        return Finding(STEP, Result.WARNING, message, "renew it before the workshop: certbot renew")
    return Finding(STEP, Result.OK, f"certificate for {host}, {days:.0f} days left")


def judge_page(page: Page, accounts: Sequence[Account]) -> Iterator[Finding]:
    """The landing page: is it ours, and of this token file? And the server's clock."""
    missing = [account.name for account in accounts if f'data-path="{account.path}"' not in page.text]
    if page.status != 200:
        advice = STATUS_ADVICE.get(page.status, "Apache's error log says why")
        if page.status == 404:
            advice = "is the virtual host enabled (a2ensite vncgate), and its ServerName this name?"
        yield Finding(STEP, Result.ERROR, f"the landing page answers {page.status}", advice)
    elif OUR_PAGE not in page.text:
        advice = "is the virtual host enabled (a2ensite vncgate), and its ServerName this name?"
        yield Finding(STEP, Result.ERROR, f"{page.url} is another page than vncgate's", advice)
    elif missing:
        advice = "reload the gate; where Apache serves the pages as files: vncgate render landing"
        yield Finding(STEP, Result.ERROR, f"the landing page does not have {some(missing)}", advice)
    else:
        yield Finding(STEP, Result.OK, f"the landing page is there, with {count(len(accounts), 'account')}")
    if page.clock is not None and abs(page.clock) > DRIFT:
        message = f"the web server's clock is {abs(page.clock):.0f} s {'ahead of' if page.clock > 0 else 'behind'} ours"
        yield Finding(STEP, Result.WARNING, message, "on both machines: timedatectl set-ntp true")


def judge_desktops(names: Sequence[str], failed: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """`names` were tried, and `failed` has by its reason who did not get in (as rehearsal.Report.failed)."""
    for reason, who in failed.items():
        status = re.search(r"HTTP ([0-9]+)", reason)
        advice = STATUS_ADVICE.get(int(status[1]), OTHER_STATUS) if status else "see vncgate status and the gate's log"
        yield Finding(STEP, Result.ERROR, f"the desktop of {some(who)}: {reason}", advice)
    if good := [name for name in names if not any(name in who for who in failed.values())]:
        yield Finding(STEP, Result.OK, f"{count(len(good), 'desktop')} reached all the way: {some(good)}")


def spread(accounts: Sequence[Account], number: int | None) -> list[Account]:
    """`number` accounts (None: all), from the first on evenly spread."""
    size = len(accounts)
    if number is None or number >= size:
        return list(accounts)
    return [accounts[index * size // number] for index in range(number)]


# ---- looking


async def _certificate(host: str, port: int, context: ssl.SSLContext) -> Mapping[str, Any] | Exception:
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
            try:
                return writer.get_extra_info("peercert") or {}
            finally:
                writer.close()
    except (OSError, UnicodeError) as error:
        return error


async def _page(session: aiohttp.ClientSession, url: str, trusted: bool) -> Page:
    async with session.get(url, ssl=trusted) as response:
        text = (await response.content.read(16 << 20)).decode("utf-8", "replace")
        date = response.headers.get("Date")
        clock = email.utils.parsedate_to_datetime(date).timestamp() - time.time() if date else None
        return Page(response.status, text, str(response.url), clock)


async def _desktops(case: Case) -> list[Finding]:
    sample = spread(case.usable, case.sample)
    if not sample:
        return [Finding(STEP, Result.SKIPPED, "desktops: none let us in directly, so none is tried this way")]
    parts = urlsplit(case.url)
    origin = f"{parts.scheme}://{parts.netloc}"
    ways = {account: public_websocket(case.url, account, case.settings) for account in sample}
    targets = [Target(account.name, way, account.password, origin) for account, way in ways.items() if way]
    plan = Plan(Play.FIXED, rate=0, patience=PATIENCE, ramp=len(targets) / A_SECOND)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    async with Rehearsal(targets, plan, context) as rehearsal:
        await rehearsal.arrive()
        failed = rehearsal.report().failed
    findings = [*judge_desktops([target.name for target in targets], failed)]
    if lost := [account.name for account, way in ways.items() if not way]:
        advice = "give them a websocketport, or the settings a shared_port"
        findings.append(Finding(STEP, Result.ERROR, f"without Apache nobody reaches {some(lost)}", advice))
    return findings


def _said(error: Exception) -> str:
    """Why a connection failed, in plain words."""
    match error:
        case TimeoutError():
            return f"did not answer within {PATIENCE:g} s"
        case ConnectionRefusedError():
            return "refuses the connection"
        case socket.gaierror() | UnicodeError():
            return "is not known: no such host"
        case _:
            return " ".join(str(error).split()) or type(error).__name__
