"""`vncgate run` with desktops that it starts itself, as a process of its own, and a person who types into one.

with Gate(folder, settings, ws01="term") as gate:     # an account, and its kind of desktop
    gate.states()
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import vncgate
from tests.real.browser import PATIENCE, connected, log_in
from tests.real.gate import ME, RunningGate
from vncgate.store import ENDED

KIND = """
[desktops.kinds.{name}]
place = "{place}"
command = "xterm -maximized"
window_manager = "openbox"
home = "{{homes}}/{{account}}"
{more}
"""
TEMPLATE = Path(vncgate.__file__).parent / "launchers" / "templates" / "desktop.sh.j2"


def section(name, place):
    """A place as the settings' file has it: JSON's values are TOML's, too."""
    values = place.model_dump(mode="json", exclude_unset=True).items()
    lines = [f"{key} = {json.dumps(value)}" for key, value in values if value is not None]
    return "\n".join([f"[desktops.places.{name}]", *lines, ""])


def kind(name, place, more=""):
    """An xterm as a kind of desktop; `more` lines may follow."""
    return KIND.format(name=name, place=place, more=more)


class Gate(RunningGate):
    """A gate with desktops that end with it. `settings` are places and kinds; `kinds` are those of its accounts.

    Each account has a password of its own, pw-NAME, and a home folder, where the settings have it `{homes}/{account}`.
    While `hold` exists, no desktop comes up: their script is the site's own, and waits before it starts Xvnc.
    """

    def __init__(self, folder: Path, settings: str, **kinds: str) -> None:
        head = f'[desktops]\nfolder = "{folder}/d"\ntemplates = "{folder}/templates"\n'
        super().__init__(folder, head + settings.replace("{homes}", f"{folder}/homes"))
        self.url = f"http://127.0.0.1:{self.web}/"
        self.hold = folder / "hold"
        before, server, after = TEMPLATE.read_text().partition("\nprogram=")
        own = folder / "templates" / TEMPLATE.name
        own.parent.mkdir()
        own.write_text(f"{before}\nwhile [ -e {self.hold} ]; do sleep 0.05; done{server}{after}")
        self.write(*(f"{name} - path-{name} - - pw-{name} desktop={kind}" for name, kind in kinds.items()))

    def home(self, name: str) -> Path:
        return self.folder / "homes" / name

    def desktop(self, name: str) -> dict:
        return self.account(name)["launched"]

    def states(self) -> dict[str, str]:
        return {account["name"]: account["launched"]["state"] for account in self.status()["accounts"]}

    def servers(self) -> dict[str, str]:
        """The VNC servers of its desktops, wherever: process number by desktop's nonce."""
        found = [(nonce, pid) for pid, nonce, argv in self._processes() if "-displayfd" in argv]
        assert len(dict(found)) == len(found), "two servers for one desktop"
        return dict(found)

    def begin_anew(self) -> None:
        """Kill it (SIGKILL), and start another one; ends when that serves."""
        self.kill()
        before = self.log.count("serving")
        self.launch()
        self.until(lambda: self.log.count("serving") > before)

    def left(self) -> list[str]:
        """What desktops should not leave when they are ended: processes, files (but for why they ended)."""
        room = self.folder / "d" / "local" / ME
        files = [path for path in self.folder.glob("d/*/*") if path != room and path.suffix != ENDED]
        return [*(" ".join(argv) for _, _, argv in self._processes()), *map(str, files), *map(str, room.glob("*"))]

    def _processes(self):
        mine = str(self.folder)
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                environ = (path / "environ").read_text(errors="replace")
                argv = (path / "cmdline").read_text(errors="replace").split("\0")
                _, marked, rest = environ.partition("VNCGATE_DESKTOP=")
                if marked and mine in environ + " ".join(argv):
                    yield path.name, rest.partition("\0")[0], argv

    def __exit__(self, *exc: object) -> None:
        self.hold.unlink(missing_ok=True)
        try:
            self.command("desktop", "stop", "--all")
            if not any(exc):
                self.until(lambda: not self.left())
        finally:
            super().__exit__(*exc)
            for pid, *_ in list(self._processes()):  # what a test that failed has found
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGTERM)


async def enter(page, name):
    """Log in and wait for the desktop."""
    await log_in(page, f"pw-{name}")
    await connected(page)


async def types(page, home, word):
    """Click into the xterm, and have its shell write a file; again where the window was not there yet."""
    await connected(page)
    file = home / f"{word}.txt"
    async with asyncio.timeout(PATIENCE):
        while not file.exists() or file.read_text() != f"{word}\n":
            await page.locator(".desk-screen canvas").click()
            await page.keyboard.press("Control+c")
            await page.keyboard.type(f"echo {word} > {file.name}\n")
            await asyncio.sleep(0.5)
