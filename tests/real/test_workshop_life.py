"""A workshop of three desktops through its commands: opened, frozen, ended and purged, by a gate that is killed in the
middle of its end; with a participant in Chromium, their files, and what is left of it all.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import zipfile

import pytest
from playwright.async_api import expect

from tests.real.browser import says
from tests.real.conftest import need
from tests.real.gate import ME
from tests.real.launching import Gate, types
from vncgate import control, tokens

need("Xvnc", "openbox", "xterm", "chromium", "pdftotext")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

NAMES = ("ws01", "ws02", "ws03")
PIN = "480113"
SETTINGS = f"""
[files]
root = "{{homes}}/{{account}}"
user = "{ME}"

[workshop]
title = "Our school"
doors_open = 2100-01-01T09:00:00Z
ends = 2100-01-01T18:00:00Z
purge = 2100-02-01T00:00:00Z

[desktops.kinds.term]
command = "xterm -maximized"
window_manager = "openbox"
home = "{{homes}}/{{account}}"
"""


@pytest.fixture
def gate(tmp_path_factory):
    gate = Gate(tmp_path_factory.mktemp("w"), SETTINGS)
    gate.environ["STATE_DIRECTORY"] = str(gate.folder / "state")
    gate.settings = f'access = "seat"\npublic_url = "{gate.url}"\n{gate.settings}'
    gate.write("# Keep this.", *(f"{name} - path-{name} - - pw-{name}xx pin={PIN}  # a comment" for name in NAMES))
    with gate:
        yield gate


def workshop(gate, *args):
    done = gate.command("workshop", *args)
    assert done.returncode == 0, done.stderr + gate.log
    return done.stdout


def phase(gate):
    return control.call(gate.control, "/workshop")


def passwords(gate):
    return [account.password.reveal() for account in tokens.parse(gate.tokens.read_bytes()).roster.values()]


async def sign_in(page, account):
    await page.get_by_label("Account").fill(account)
    await page.get_by_label("PIN", exact=True).fill(PIN)
    await page.get_by_role("button", name="Sign in").click()


@pytest.mark.timeout(300)
async def test_a_workshop_from_its_doors_to_its_purge(gate, browse):
    # Before the doors open: one can sign in, and that is all.
    assert workshop(gate, "status").splitlines()[0] == "Our school: sign-up"
    page = await browse(gate.url)
    await sign_in(page, "ws01")
    await says(page, "Your desktop is not open", "The workshop has not begun yet")
    assert set(gate.states().values()) == {"STOPPED"}
    # Open, before its time.
    assert workshop(gate, "open").splitlines()[0] == "Our school: open"
    await page.reload()
    await types(page, gate.home("ws01"), "work")
    assert gate.command("desktop", "start", "--all").returncode == 0
    # Frozen: who is in goes on, and is told; nobody else comes in.
    assert "frozen" in workshop(gate, "freeze")
    await expect(page.locator("[data-notes]")).to_contain_text("Nobody new can sign in for now. You can go on.")
    other = await browse(gate.url)
    await sign_in(other, "ws02")
    await expect(other.get_by_role("alert")).to_be_visible()
    await types(page, gate.home("ws01"), "frozen")
    workshop(gate, "open")
    await other.context.close()
    await page.goto("about:blank")  # so that the end waits for nobody
    gate.until(lambda: not gate.account("ws01")["connections"])
    # The end, of which a dry run tells and does nothing; the gate is killed in the middle, and the next one goes on.
    plan = workshop(gate, "end", "--dry-run")
    assert "3 desktops of the gate's own, 8 at a time: ws01 ws02 ws03" in plan
    assert phase(gate)["phase"] == "open"
    before, old = passwords(gate), set(gate.servers().values())
    assert len(old) == len(NAMES)
    control.call(gate.control, "/workshop/end", {"by": "ada"})
    gate.until(lambda: (phase(gate)["work"] or {"done": ["all"]})["done"])
    gate.begin_anew()
    gate.until(lambda: phase(gate)["work"] is None)
    ended = phase(gate)
    assert ended["phase"] == "ended"
    assert "3 archives built" in ended["said"]
    assert "new VNC passwords: 3 in the token file, 0 left to VNC servers of their own" in ended["said"]
    assert set(gate.states().values()) == {"STOPPED"}
    assert not gate.servers()
    assert not [pid for pid in old if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110
    text = gate.tokens.read_text()
    assert text.startswith("# Keep this.\n")
    assert text.count("# a comment") == len(NAMES)
    assert not set(before) & set(passwords(gate))
    archive = gate.folder / "state" / "archives" / "ws01.zip"
    with zipfile.ZipFile(archive) as packed:
        assert "work.txt" in {name.rpartition("/")[2] for name in packed.namelist()}
    # The session is worthless; the PIN still lets its owner in, to the files and to no desktop.
    await page.goto(gate.url)
    await sign_in(page, "ws01")
    await says(page, "Your desktop is not open", "The workshop is over")
    gate.until(lambda: not gate.servers())
    # Again, which does no harm; then all that is personal goes.
    assert "Our school: ended" in workshop(gate, "end")
    assert gate.command("workshop", "open").returncode == 0
    refused = gate.command("workshop", "purge", "--yes")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "nothing is removed before its end" in refused.stderr
    workshop(gate, "end")
    with contextlib.closing(sqlite3.connect(gate.folder / "state" / "ledger.sqlite")) as ledger:
        assert ledger.execute("select count(*) from audit").fetchone()[0] > 0
    assert "3 archives removed" in workshop(gate, "purge", "--dry-run")
    purged = workshop(gate, "purge", "--yes")
    assert "Our school: purged" in purged
    assert "3 archives removed" in purged
    assert not list(archive.parent.glob("*.zip"))
    assert gate.home("ws01").joinpath("work.txt").exists(), "people's own files are theirs"
    # The report tells of it without a name.
    report = gate.folder / "report.pdf"
    workshop(gate, "report", "-o", str(report))
    said = subprocess.run(["pdftotext", "-layout", report, "-"], capture_output=True, text=True, check=True).stdout
    assert "Our school" in said
    for word in (PIN, *before, *passwords(gate)):
        assert word not in gate.log + said + purged
