"""`vncgate demo` as a person starts it, with embedded and with TigerVNC's desktops: it leaves nothing behind."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from tests.real.browser import connected, content, log_in
from tests.real.conftest import need
from vncgate.demo.canvas import Rect, text_box
from vncgate.demo.screen import MARGIN, PANEL, PANEL_TITLE, SCALE, Screen
from vncgate.model import Desktop, Secret
from vncgate.probe import login

pytestmark = pytest.mark.real
PATIENCE = 30.0
X_SOCKETS = Path("/tmp/.X11-unix")


def descendants(pid: int) -> set[int]:
    found = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found |= {child} | descendants(child)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def deserted() -> set[Path]:
    """Sockets of X servers that nobody has open any more."""
    there = set(X_SOCKETS.glob("X*"))
    return {path for path in there if f" {path}\n" not in Path("/proc/net/unix").read_text()}


def wait_until(true, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Demo:
    """The command as a process, with a folder for temporary files of its own."""

    def __init__(self, temporary: Path, *args: str, path: str | None = None) -> None:
        self.temporary = temporary
        environment = os.environ | {"TMPDIR": str(temporary)} | ({} if path is None else {"PATH": path})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vncgate", "demo", *args],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def wait_for(self, words: str) -> None:
        """Read what it prints, up to a line with `words`."""
        for line in self.process.stdout:
            self.said += line
            if words in line:
                return
        pytest.fail(f"it ended: {self.said}{self.process.stderr.read()}")

    @property
    def passwords(self) -> dict[str, str]:
        return dict(re.findall(r"^  (ws\d+) +(\S+)$", self.said, re.MULTILINE))

    @property
    def folder(self) -> Path:
        (folder,) = self.temporary.iterdir()
        return folder

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; returns exit status and stderr when everything that it had started is gone too."""
        started = descendants(self.process.pid)
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE)
        wait_until(lambda: not any(map(alive, started)), "processes are left")
        return self.process.returncode, errors

    def status(self) -> dict:
        argv = [sys.executable, "-m", "vncgate", "status", "--json", "--control", str(self.folder / "control")]
        return json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)


@pytest.fixture
def temporary():
    folder = Path(tempfile.mkdtemp(prefix="t"))  # short, for the sockets in it
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def start(temporary):
    """Starts demos, and kills those that a failed test leaves."""
    demos = []

    def start(*args, path=None) -> Demo:
        demos.append(Demo(temporary, *args, path=path))
        return demos[-1]

    yield start
    for demo in demos:
        with demo.process:
            demo.process.kill()


def serve(start, web: str, kind: str, accounts: int) -> Demo:
    demo = start("--accounts", str(accounts), "--web", web, path="" if kind == "embedded" else None)
    demo.wait_for("leaves nothing behind")
    assert f" ({kind}) at http://{web}\n" in demo.said
    return demo


async def log_in_to_all(demo: Demo) -> None:
    for name, password in demo.passwords.items():
        desktop = Desktop(unix=str(demo.folder / name))
        await login(desktop, Secret(password), connect_timeout=5, timeout=5)


@pytest.mark.parametrize(("kind", "number"), [("embedded", signal.SIGINT), ("TigerVNC", signal.SIGTERM)])
async def test_the_demo_serves_and_leaves_nothing_behind(start, temporary, free_port, kind, number):
    if kind == "TigerVNC":
        need("Xvnc", "openbox", "xterm")
    before = deserted()
    web = f"127.0.0.1:{free_port()}"
    demo = serve(start, web, kind, 3)
    assert list(demo.passwords) == ["ws01", "ws02", "ws03"]
    assert len(set(demo.passwords.values())) == 3
    assert (demo.folder.stat().st_mode & 0o777, (demo.folder / "tokens").stat().st_mode & 0o777) == (0o700, 0o600)
    page = urllib.request.urlopen(f"http://{web}/", timeout=10).read().decode()
    assert "ws03" in page
    assert not any(password in page for password in demo.passwords.values())
    await log_in_to_all(demo)
    wait_until(lambda: demo.status()["totals"]["ready"] == 3, "the desktops are not ready")
    assert demo.end(number) == (0, "")
    assert list(temporary.iterdir()) == []
    wait_until(lambda: not deserted() - before, "a socket of an X server is left")  # others come and go all the while


async def open_desktop(browse, demo: Demo, name: str):
    """The way of a person who has the terminal before them: the address, the card, the password."""
    page = await browse(re.search(r"http://\S+", demo.said)[0])
    await page.get_by_role("link", name=re.compile(name)).click()
    await log_in(page, demo.passwords[name])
    await connected(page)
    return page


async def pixels(page, rect: Rect) -> bytes:
    """What the viewer shows there, as a canvas of the embedded desktop has it."""
    script = """([x, y, width, height]) => [...document.querySelector(".desk-screen canvas")
        .getContext("2d").getImageData(x, y, width, height).data]"""
    rgba = await page.evaluate(script, list(rect))
    colours = (red << 16 | green << 8 | blue for red, green, blue in zip(*(rgba[n::4] for n in range(3)), strict=True))
    return b"".join(colour.to_bytes(4, sys.byteorder) for colour in colours)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_person_types_on_an_embedded_desktop(start, browse, free_port):
    words = "Hello from ws02!"
    screen = Screen("ws02", 0.0)
    for char in words:
        screen.key(ord(char), True)
    line = text_box(PANEL.x + MARGIN, PANEL.y + PANEL_TITLE + MARGIN // 2 + SCALE, words, SCALE)
    wanted = screen.canvas.pixels(line)

    demo = serve(start, f"127.0.0.1:{free_port()}", "embedded", 2)
    page = await open_desktop(browse, demo, "ws02")
    await page.mouse.move(1, 1)  # the pointer is drawn where the mouse is
    assert await pixels(page, line) != wanted
    await page.keyboard.type(words)
    async with asyncio.timeout(PATIENCE):
        while await pixels(page, line) != wanted:
            await asyncio.sleep(0.05)
    assert page.complaints == []
    assert demo.end(signal.SIGINT) == (0, "")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_person_types_on_a_tigervnc_desktop(start, browse, free_port):
    need("Xvnc", "openbox", "xterm")
    demo = serve(start, f"127.0.0.1:{free_port()}", "TigerVNC", 2)
    page = await open_desktop(browse, demo, "ws02")
    await page.keyboard.type("echo Hello from $DISPLAY > typed.txt\n")
    assert re.fullmatch(r"Hello from :\d+\n", await content(demo.folder / "ws02.home" / "typed.txt"))
    assert not (demo.folder / "ws01.home" / "typed.txt").exists()
    assert page.complaints == []
    assert demo.end(signal.SIGINT) == (0, "")


def test_interrupted_before_it_serves(start, temporary):
    need("Xvnc")
    demo = start("--web", "127.0.0.1:0")
    wait_until(lambda: list(temporary.glob("*/ws02")), "no second desktop")
    status, errors = demo.end(signal.SIGINT)
    assert (status, errors) == (0, "")
    assert list(temporary.iterdir()) == []


def test_the_terminal_is_closed(start, temporary, free_port):
    demo = serve(start, f"127.0.0.1:{free_port()}", "embedded", 1)
    assert demo.end(signal.SIGHUP) == (0, "")
    assert list(temporary.iterdir()) == []


def test_a_crash_of_the_demo_takes_the_desktops_with_it(start, free_port):
    need("Xvnc")
    demo = serve(start, f"127.0.0.1:{free_port()}", "TigerVNC", 1)
    assert demo.end(signal.SIGKILL)[0] == -signal.SIGKILL


def test_the_web_port_is_in_use(start, temporary, free_port):
    web = f"127.0.0.1:{free_port()}"
    serve(start, web, "embedded", 1)
    second = start("--web", web, path="")
    _, errors = second.process.communicate(timeout=PATIENCE)
    assert second.process.returncode == 1
    port = web.rpartition(":")[2]
    assert (
        errors == f"vncgate: the demo: port {port} on 127.0.0.1 is in use by another program (ss -ltnp shows which)\n"
    )
    assert len(list(temporary.iterdir())) == 1


def test_an_xvnc_that_does_not_work_gives_embedded_desktops(start, temporary, tmp_path):
    fake = tmp_path / "Xtigervnc"
    fake.write_text("#!/bin/sh\n[ $1 = -version ] && echo TigerVNC || { echo 'no display today'; exit 1; }\n")
    fake.chmod(0o755)
    demo = start("--accounts", "1", "--web", "127.0.0.1:0", path=str(tmp_path))
    demo.wait_for("leaves nothing behind")
    assert "1 desktop (embedded)" in demo.said
    status, errors = demo.end(signal.SIGINT)
    assert status == 0
    assert errors == "Xvnc of ws01 did not start: no display today; the demo goes on with embedded desktops\n"
