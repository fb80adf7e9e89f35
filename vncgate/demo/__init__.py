"""A workshop to try vncgate with: desktops and a gate on this machine, which leave nothing behind.

The desktops are ordinary ones, their token file is an ordinary one, and the gate is the daemon of `vncgate run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from vncgate import listeners, new_accounts, settings, tasks, tokens
from vncgate.daemon import Gate
from vncgate.demo import desktop, xvnc
from vncgate.errors import DesktopError, ListenError, SettingsError, VncgateError
from vncgate.files import replace_file
from vncgate.model import Account, Desktop
from vncgate.settings import HostPort, Settings

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FIRST_HUE = 0.6
"""Colour of the first embedded desktop; the others' are spread around the circle."""
LONGEST_FILE = 10
"""Characters that a socket's name may add to the folder's."""
WELCOME = "Choose a desktop. Its password stands in the terminal in which the demo was started."


async def run(count: int, web: str) -> None:
    """Run a workshop of `count` accounts with its pages at `web` (HOST:PORT) until SIGINT, SIGTERM or SIGHUP.

    Prints the address and, because it is a demo, the passwords. Raises a VncgateError when it cannot begin; whatever
    the way out, all processes are ended and all files removed.
    """
    work = tasks.spawn(_workshop(count, web), "demo", expected=VncgateError)
    _on_signal(work.cancel)
    try:
        await asyncio.wait([work])
    finally:
        _on_signal(None)
    if not work.cancelled():
        work.result()


async def _workshop(count: int, web: str) -> None:
    with _folder() as folder:
        chosen = _settings(web, folder)
        accounts = _accounts(count, folder)
        replace_file(folder / "tokens", tokens.render(accounts).encode(), mode=0o600)
        async with contextlib.AsyncExitStack() as stack:
            kind = await _open_desktops(stack, accounts, folder)
            gate = Gate(folder / "tokens", chosen, environ={})
            announcing = tasks.spawn(_announce(gate, _announcement(accounts, chosen, kind)), "announcement")
            try:
                await gate.run()
            finally:
                _on_signal(lambda: None)  # the gate has let go of the signals, and the end is under way
                await tasks.end(announcing)


async def _open_desktops(stack: contextlib.AsyncExitStack, accounts: list[Account], folder: Path) -> str:
    """Open them all, sessions on TigerVNC's Xvnc where that works; returns what they are, in a word."""
    if server := await asyncio.to_thread(xvnc.find):
        try:
            for account in accounts:
                await stack.enter_async_context(xvnc.serve(server, account, folder / account.name))
        except DesktopError as error:
            print(f"{error}; the demo goes on with embedded desktops", file=sys.stderr)
            await stack.aclose()
        else:
            return "TigerVNC"
    for place, account in enumerate(accounts):
        hue = FIRST_HUE + place / len(accounts)
        await stack.enter_async_context(desktop.serve(account, folder / account.name, hue))
    return "embedded"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vncgate-demo-") as name:  # mode 0700
        if len(name) > tokens.LONGEST_SOCKET - LONGEST_FILE:
            raise SettingsError(f"{name}: too long for the sockets in it; set TMPDIR to a shorter one, such as /tmp")
        yield Path(name)


def _settings(web: str, folder: Path) -> Settings:
    """The gate's settings; the shared port is the next after the pages', or any that is free."""
    wanted = settings.load(flags={"web": web}).web
    if wanted is None:
        raise SettingsError("--web: the demo is nothing without its pages; write it as HOST:PORT")
    page_port = _free_port(wanted.host, wanted.port)
    try:
        shared_port = _free_port(wanted.host, min(page_port + 1, 65535))
    except ListenError:
        shared_port = _free_port(wanted.host, 0)
    return settings.load(
        flags={
            "web": str(HostPort(host=wanted.host, port=page_port)),
            "listen": wanted.host,
            "shared_port": shared_port,
            "workers": 0,
            "control": str(folder / "control"),
            "landing.title": "vncgate demo",
            "landing.welcome": WELCOME,
        }
    )


def _free_port(host: str, port: int) -> int:
    """`port`, or one that the kernel chooses (0). Raises ListenError when it is not free."""
    sock = listeners.bind(host, port, "the demo")
    try:
        number: int = sock.getsockname()[1]
    finally:
        sock.close()
    return number


def _accounts(count: int, folder: Path) -> list[Account]:
    """Accounts ws01 and on with random passwords, each with a unix socket of its own in `folder`."""
    planned = new_accounts.plan(count, ["localhost"], choose=secrets.choice, first_websocketport=None)
    return [replace(account, desktop=Desktop(unix=str(folder / account.name))) for account in planned]


async def _announce(gate: Gate, text: str) -> None:
    await gate.started.wait()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, gate.shut_down)  # the terminal was closed
    print(text, flush=True)


def _announcement(accounts: list[Account], chosen: Settings, kind: str) -> str:
    width = max(len("account"), *(len(account.name) for account in accounts))
    rows = [f"  {account.name:{width}}  {account.password.reveal()}" for account in accounts]
    return "\n".join(
        [
            f"{len(accounts)} desktop{'s' if len(accounts) > 1 else ''} ({kind}) at http://{chosen.web}",
            "",
            f"  {'account':{width}}  password",
            *rows,
            "",
            f"{_command()} status --control {chosen.control} shows what the gate sees.",
            "Ctrl-C ends the demo and leaves nothing behind.",
        ]
    )


def _command() -> str:
    """How this program was called, so that the line that is printed works when it is copied."""
    return sys.argv[0] if Path(sys.argv[0]).name == "vncgate" else "vncgate"


def _on_signal(deed: Callable[[], object] | None) -> None:
    """Do `deed` on each of SIGNALS; None: what the system does by default."""
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        if deed is None:
            loop.remove_signal_handler(number)
        else:
            loop.add_signal_handler(number, deed)
