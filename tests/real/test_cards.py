"""Cards as a printer has them: their codes are read by a program, and what is written on them is found in the PDF."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
import reportlab

from tests.real.conftest import need
from vncgate.model import Secret
from vncgate.render.access_cards import COLUMNS, ROWS, AccessCard, Look, html, pdf
from vncgate.seat_links import SeatLink, seat_token

need("pdftoppm", "pdftotext", "zbarimg", "chromium")
pytestmark = pytest.mark.real

FOLDER = Path(reportlab.__file__).parent / "fonts"
VERA = ((FOLDER / "Vera.ttf").read_bytes(), (FOLDER / "VeraBd.ttf").read_bytes())
LOOK = Look("Summer school", "workshop.example.org", "Wi-Fi: guests, password: neutron-26")
MANY = 500


def card(number):
    account = f"ws{number:03}"
    token = seat_token(b"k" * 64, SeatLink(account, 1790000000, 0))
    link = Secret(f"https://workshop.example.org/seat#{token}")
    return AccessCard(account, f"Ada {number}", Secret(f"{number:06}"), link)


def codes(file, page, tmp_path):
    """What the codes on a page of a PDF say."""
    picture = tmp_path / f"page{page}"
    argv = ["pdftoppm", "-r", "300", "-png", "-singlefile", "-f", str(page), "-l", str(page), file, picture]
    subprocess.run(argv, check=True)
    argv = ["zbarimg", "--quiet", "--raw", "--nodbus", f"{picture}.png"]
    return set(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split())


def test_five_hundred_cards_and_every_code_of_a_sheet_opens_its_seat(tmp_path):
    cards = [card(number) for number in range(MANY)]
    began = time.process_time()
    sheet = pdf(cards, LOOK, [VERA])
    print(f"{MANY} cards: {time.process_time() - began:.1f} s of a processor, {len(sheet.content) / 1e6:.1f} MB")
    file = tmp_path / "cards.pdf"
    file.write_bytes(sheet.content)
    on_a_sheet = COLUMNS * ROWS
    assert codes(file, 1, tmp_path) == {each.link.reveal() for each in cards[:on_a_sheet]}
    assert codes(file, MANY // on_a_sheet, tmp_path) == {each.link.reveal() for each in cards[-on_a_sheet:]}
    argv = ["pdftotext", "-f", "1", "-l", "1", file, "-"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    for each in cards[:on_a_sheet]:
        assert {each.account, each.name, each.pin.reveal()} <= set(text.splitlines())


@pytest.mark.asyncio(loop_scope="module")
async def test_html_cards_fit_their_sheets_when_they_are_printed(browse, tmp_path):
    cards = [card(number) for number in range(25)]
    page = tmp_path / "cards.html"
    page.write_bytes(html(cards, LOOK).content)
    shown = await browse(f"file://{page}")
    assert shown.complaints == []
    assert shown.requests == [f"file://{page}"], "it asks nobody for anything"
    printed = tmp_path / "printed.pdf"
    await shown.pdf(path=printed, prefer_css_page_size=True)
    assert codes(printed, 1, tmp_path) == {each.link.reveal() for each in cards[:10]}
    assert codes(printed, 3, tmp_path) == {each.link.reveal() for each in cards[20:]}
    assert subprocess.run(["pdftotext", "-f", "4", "-l", "4", printed], capture_output=True).returncode, "three sheets"


def test_what_is_a_little_too_long_is_written_smaller_and_whole(tmp_path):
    names = [f"Ada {'m' * 20}{'i' * number} Byron" for number in range(40)]
    file = tmp_path / "cards.pdf"
    file.write_bytes(pdf([AccessCard("ws01", name, None, None) for name in names], LOOK, [VERA]).content)
    text = subprocess.run(["pdftotext", "-layout", file, "-"], check=True, capture_output=True, text=True).stdout
    for name in names:
        assert name in text
