"""Plan the accounts of a workshop: names, hosts, ports and passwords. Pure; chance is passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vncgate.errors import NewAccountsError
from vncgate.model import Account, Desktop, Secret

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"
"""Characters of passwords: letters and digits without the look-alikes 0 O o, 1 I l."""
PIN_LENGTH = 6
"""Digits of a PIN: people type it, and the gate slows down who guesses."""
PASSWORD_LENGTH = 8
"""VncAuth reads no more (RFC 6143, section 7.2.2). 56 characters give 46 bits."""
HIGHEST_PORT = 65535


def plan(
    count: int,
    hosts: Sequence[str] | None,
    *,
    choose: Callable[[Sequence[str]], str],
    prefix: str = "ws",
    first_websocketport: int | None = 7000,
    first_vncport: int = 5901,
    with_pins: bool = False,
) -> tuple[Account, ...]:
    """`count` accounts, dealt to the hosts in turn, so that whoever comes first finds an empty host.

    On each host the vncports count up from `first_vncport`; the websocketports count up from `first_websocketport` over
    all accounts (None: they have none). With `with_pins` each has a PIN. Where `hosts` is None a launcher says where
    each desktop is. `choose` draws one of a sequence and must be fit for secrets. Raises NewAccountsError when there is
    nobody to place, a host is there twice, or ports run out.
    """
    if count < 1 or (hosts is not None and not hosts):
        raise NewAccountsError("there must be at least one account and one host")
    if hosts is not None:
        if len(set(hosts)) < len(hosts):
            raise NewAccountsError("a host is in the list twice")
        _check("vncport", first_vncport, -(-count // len(hosts)))
    if first_websocketport is not None:
        _check("websocketport", first_websocketport, count)
    width = max(2, len(str(count)))
    accounts = []
    for index in range(count):
        number = f"{index + 1:0{width}}"
        desktop = Desktop(hosts[index % len(hosts)], first_vncport + index // len(hosts)) if hosts else None
        port = None if first_websocketport is None else first_websocketport + index
        password = Secret(new_password(choose))
        pin = Secret(new_pin(choose) if with_pins else "")
        accounts.append(Account(prefix + number, desktop, f"websocketpath{number}", port, password, pin=pin))
    return tuple(accounts)


def new_password(choose: Callable[[Sequence[str]], str]) -> str:
    """A password for VncAuth."""
    return "".join(choose(ALPHABET) for _ in range(PASSWORD_LENGTH))


def new_pin(choose: Callable[[Sequence[str]], str]) -> str:
    """A PIN."""
    return "".join(choose("0123456789") for _ in range(PIN_LENGTH))


def _check(what: str, first: int, count: int) -> None:
    if first < 1 or first + count - 1 > HIGHEST_PORT:
        raise NewAccountsError(f"{count} {what}s from {first} on do not fit into 1 to {HIGHEST_PORT}")
