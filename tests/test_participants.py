"""The rooms of those who take part: their key and their ledger's address, and nobody pays for them who has none."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest

from tests.launched import RUNNING, Launcher, desktop
from tests.seats import CHEAP, PIN, with_pins
from tests.web.values import Gate, accounts
from vncgate import pins
from vncgate.errors import LedgerError, SettingsError
from vncgate.participants import Participants, try_out
from vncgate.settings import Settings

SEAT = {"public_url": "https://workshop.example.org/", "access": "seat"}


@pytest.fixture
async def opened(tmp_path, monkeypatch):
    """A function that opens them with these settings of [seats], in a state folder of their own; ends them."""
    monkeypatch.setattr(pins, "HASHER", CHEAP)
    gate, rooms = Gate(with_pins(accounts(3))), []

    async def open_(**seats):
        admitted = {}

        async def admit(admissions):
            admitted.update(admissions)

        environ = {"STATE_DIRECTORY": str(tmp_path / "state")}
        desktops = Launcher(desktop("ws01", RUNNING), desktop("ws02", RUNNING))
        found = await Participants.open(
            Settings(**SEAT, seats=seats), environ, gate.roster, admit, gate.statuses, desktops
        )
        found.desktops = desktops
        rooms.append(found)
        return found, admitted

    yield open_
    for each in rooms:
        await each.aclose()


async def test_the_first_start_makes_a_key_and_a_ledger_for_our_eyes_alone(opened, tmp_path):
    rooms, admitted = await opened()
    key = tmp_path / "state" / "seats.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state" / "ledger.sqlite").stat().st_mode) == 0o600
    assert rooms.key == key.read_bytes().strip()
    assert len(rooms.key) >= 32
    assert admitted == {"ws01": {}, "ws02": {}, "ws03": {}}


async def test_the_desktop_of_who_leaves_a_seat_ends(opened):
    """Whoever gets the seat next must not find it open."""
    rooms, _ = await opened()
    await rooms.seating.release("ws01", "ada")
    assert rooms.desktops.calls == [("stop", ["ws01"])]
    await rooms.seating.release("ws03", "ada")  # a desktop that the gate does not start
    assert len(rooms.desktops.calls) == 1


async def test_the_next_one_has_the_same_key_and_lets_in_whom_the_one_before_did(opened):
    before, _ = await opened()
    entry = await before.seating.sign_in("ws01", PIN, "198.51.100.7")
    await before.aclose()
    after, admitted = await opened()
    assert after.key == before.key
    assert entry.session.digest in admitted["ws01"]


async def test_a_trial_finds_what_the_start_would_and_leaves_the_ledger_alone(tmp_path):
    environ = {"STATE_DIRECTORY": str(tmp_path / "state")}
    await try_out(Settings(**SEAT), environ)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["seats.key"]
    terms = {"name": "terms", "title": "Terms", "file": str(tmp_path / "missing.md")}
    with pytest.raises(SettingsError, match="missing.md"):
        await try_out(Settings(**SEAT, signup={"enabled": True, "documents": [terms]}), environ)
    (tmp_path / "state" / "seats.key").chmod(0o644)
    with pytest.raises(SettingsError, match="others can read"):
        await try_out(Settings(**SEAT), environ)


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ({"mail": {"password_file": "{}/missing", "user": "w"}}, "mail.password_file: .*missing"),
        ({"mail": {"ca_file": "{}/missing"}}, "mail.ca_file: .*missing"),
        ({"landing": {"templates": "{}/templates"}, "mail": {}}, "mail_waiting.txt:1"),
        ({"files": {"root": "/scratch", "user": ""}}, "files.user: is empty"),
        ({"files": {"root": "/scratch", "user": "w", "archives": "{}/file/archives"}}, "files.archives: .*file"),
    ],
)
async def test_a_trial_finds_what_mails_and_files_need(tmp_path, monkeypatch, section, found):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (tmp_path / "file").touch()
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "mail_waiting.txt").write_text("{% if %}")
    section = {name: {key: value.format(tmp_path) for key, value in values.items()} for name, values in section.items()}
    if "mail" in section:
        section["mail"] |= {"host": "127.0.0.1", "sender": "w@example.org"}
    with pytest.raises(SettingsError, match=found):
        await try_out(Settings(**SEAT, **section), {"STATE_DIRECTORY": str(tmp_path / "state")})


@pytest.mark.parametrize("content", [b"", b"short\n", b"x" * 31])
async def test_a_short_key_is_refused(opened, tmp_path, content):
    key = tmp_path / "key"
    key.write_bytes(content)
    key.chmod(0o600)
    with pytest.raises(SettingsError, match="less than 32 bytes"):
        await opened(key=key)


async def test_a_key_that_others_can_read_is_refused(opened, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"x" * 32)
    key.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        await opened(key=key)


async def test_the_ledgers_address_may_stand_in_a_file(opened, tmp_path):
    (tmp_path / "url").write_text(f"sqlite:///{tmp_path / 'elsewhere.sqlite'}\n")
    await opened(ledger=str(tmp_path / "url"))
    assert (tmp_path / "elsewhere.sqlite").exists()


async def test_a_file_without_an_address_is_refused_and_not_repeated(opened, tmp_path):
    (tmp_path / "url").write_text("gate:s3cret@db\n")
    with pytest.raises(SettingsError) as refused:
        await opened(ledger=str(tmp_path / "url"))
    assert "should have postgresql://" in str(refused.value)
    assert "s3cret" not in str(refused.value)


async def test_what_is_not_there_is_named(opened, tmp_path):
    with pytest.raises(SettingsError, match="seats: .*nowhere cannot be used: No such file"):
        await opened(ledger=str(tmp_path / "nowhere"))


async def test_a_ledger_that_is_none_is_told_and_nothing_stays_behind(opened, tmp_path):
    (tmp_path / "bad.sqlite").write_bytes(b"this is no database at all, whatever its name says" * 100)
    with pytest.raises(LedgerError, match=r"bad\.sqlite"):
        await opened(ledger=f"sqlite:///{tmp_path / 'bad.sqlite'}")


def test_a_gate_to_which_nobody_signs_in_loads_no_database_and_no_argon2():
    code = (
        "import sys, vncgate.daemon, vncgate.cli.run, vncgate.web.app\n"
        "heavy = {'sqlalchemy', 'argon2', 'aiosqlite', 'psycopg', 'reportlab', 'matplotlib', 'zstandard'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
