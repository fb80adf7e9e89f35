"""`vncgate cards`, as it is called: what it takes from where, what it refuses, and what it warns of."""

from __future__ import annotations

import asyncio
import re
import stat
from datetime import UTC, datetime

import pytest

from vncgate.cli import cards as cli
from vncgate.cli import main
from vncgate.ledger import Ledger
from vncgate.people import Person
from vncgate.seat_links import read_seat_token
from vncgate.seat_memory import REVOKED

KEY = "k" * 64
TOKENS = "ws01 - p1 - - k3Vq9xTb pin=123456 name='Ada L.'\nws02 - p2 - - Hm7wPz4c pin=654321\nws03 - p3 - - Xm7wPz4c\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.delenv("VNCGATE_CONFIG", raising=False)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "seats.key").write_text(KEY)
    (tmp_path / "ws.tokens").write_text(TOKENS)
    (tmp_path / "ws.tokens").chmod(0o600)
    settings = 'access = "seat"\npublic_url = "https://Workshop.example.org/hpc/"\n'
    more = '[workshop]\ntitle = "Our school"\nwifi = "Wi-Fi: guests"\nends = 2100-01-01T00:00:00Z\n'
    (tmp_path / "vncgate.toml").write_text(settings + more)
    return tmp_path


@pytest.fixture
def links(monkeypatch):
    """The links that cards are made with."""
    found = []
    real = cli.SeatLink
    monkeypatch.setattr(cli, "SeatLink", lambda *values: found.append(real(*values)) or found[-1])
    return found


@pytest.fixture
def known(folder):
    """Fills the ledger by a function of it."""

    def fill(deed):
        async def work():
            ledger = await Ledger.open(f"sqlite:///{folder}/state/ledger.sqlite")
            await deed(ledger)
            await ledger.aclose()

        asyncio.run(work())

    return fill


def make(*args):
    return main(["cards", "ws.tokens", "--config", "vncgate.toml", *map(str, args)])


def test_html_and_pdf(folder, capsys):
    assert make("-o", "cards.html") == 0
    assert make("-o", "cards.pdf") == 0
    said = (folder / "cards.html").read_text()
    assert "Our school" in said
    assert "Wi-Fi: guests" in said
    assert "<dd>Workshop.example.org/hpc</dd>".lower() in said.lower()
    assert re.findall(r'class="name"><bdi>(.*?)</bdi>', said) == ["Ada L."]
    assert re.findall(r'<dd class="large">(.*?)</dd>', said) == ["ws01", "123456", "ws02", "654321", "ws03"]
    assert (folder / "cards.pdf").read_bytes().startswith(b"%PDF")
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ("cards.html", "cards.pdf")} == {0o600}
    out, err = capsys.readouterr()
    assert out == "cards.html: 3 cards, readable by you alone\ncards.pdf: 3 cards, readable by you alone\n"
    assert "ws03: no pin= in the token file" in err
    assert "123456" not in out + err


def test_links_last_to_the_end_and_are_of_the_seats_epoch(links, known):
    async def renew(ledger):
        await ledger.renew_seat("ws02")

    known(renew)
    assert make("-o", "cards.html") == 0
    assert [(link.account, link.epoch) for link in links] == [("ws01", 0), ("ws02", 1), ("ws03", 0)]
    assert {link.expires for link in links} == {int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())}
    token = cli.seat_token(KEY.encode(), links[1])
    assert read_seat_token(KEY.encode(), token) == links[1]


def test_a_card_does_not_lie_about_a_pin_and_has_the_name_of_who_sits_there(folder, known, capsys):
    async def change(ledger):
        person = Person("p", "Grace H.", "g@example.org", datetime.now(UTC))
        await ledger.sign_up(person, ["ws02"], capacity=None, waiting=True)
        await ledger.change_seat("ws01", pin_hash="$argon2id$x")
        await ledger.change_seat("ws03", pin_hash=REVOKED)

    known(change)
    assert make("-o", "cards.html") == 0
    said = (folder / "cards.html").read_text()
    assert "123456" not in said
    assert "654321" in said
    assert "Grace H." in said
    err = capsys.readouterr().err
    assert "ws01: there is a newer PIN than that of the token file" in err
    assert "ws03: is revoked" in err


def test_an_existing_file_stays(folder, capsys):
    (folder / "cards.pdf").write_text("mine")
    assert make("-o", "cards.pdf") == 1
    assert "is there already" in capsys.readouterr().err
    assert (folder / "cards.pdf").read_text() == "mine"
    (folder / "cards.pdf").chmod(0o644)
    assert make("-o", "cards.pdf", "--force") == 0
    assert stat.S_IMODE((folder / "cards.pdf").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "state" / "seats.key").unlink(), "start the gate once .* --no-links"),
        (lambda folder: (folder / "vncgate.toml").write_text('public_url = "https://x/"\n'), 'write access = "seat"'),
        (lambda folder: (folder / "ws.tokens").write_text("nonsense\n"), "vncgate check lists them"),
        (lambda folder: (folder / "ws.tokens").write_text("# nobody\n"), "has no accounts"),
    ],
)
def test_what_is_missing_is_told(folder, capsys, spoil, words):
    spoil(folder)
    assert make("-o", "cards.pdf") == 1
    assert re.search(words, capsys.readouterr().err)
    assert not (folder / "cards.pdf").exists()


def test_without_links_no_key_is_needed(folder, capsys):
    (folder / "state" / "seats.key").unlink()
    assert make("-o", "cards.html", "--no-links") == 0
    said = (folder / "cards.html").read_text()
    assert "<svg" not in said
    assert "ask the organizers" in said
    assert not (folder / "state" / "ledger.sqlite").exists(), "none is made"


def test_language_title_and_wifi(folder):
    assert make("-o", "cards.html", "--language", "de", "--title", "Schule", "--wifi", "") == 0
    said = (folder / "cards.html").read_text()
    assert '<html lang="de">' in said
    assert "Diese Karte öffnet Ihren Desktop" in said
    assert "<strong>Schule</strong>" in said
    assert "guests" not in said


def test_flags_that_cannot_be_are_told(capsys):
    assert make("-o", "cards.html", "--language", "tlh") == 1
    assert "there is no 'tlh'" in capsys.readouterr().err
    assert make("-o", "cards.pdf", "--logo", "none.png") == 1
    assert "none.png cannot be read" in capsys.readouterr().err
    assert make("-o", "cards.pdf", "--font", "none.ttf") == 1
    assert "none.ttf cannot be read" in capsys.readouterr().err
    assert make("-o", "none/cards.pdf") == 1
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make("-o", "cards.doc")


def test_without_dejavu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(cli, "FONTS", ())
    assert make("-o", "cards.pdf") == 0
    assert "no DejaVu Sans was found" in capsys.readouterr().err
