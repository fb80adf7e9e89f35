"""Access cards: what stands on them, and what does not where it must not or cannot."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import reportlab
from PIL import Image

from vncgate.model import Secret
from vncgate.render.access_cards import ASK, BY_LINK, OTHER_PIN, AccessCard, Look, html, pdf

FOLDER = Path(reportlab.__file__).parent / "fonts"
VERA = ((FOLDER / "Vera.ttf").read_bytes(), (FOLDER / "VeraBd.ttf").read_bytes())
LINK = Secret("https://workshop.example.org/seat#v1.ws01.1.0.abc")
LOOK = Look("Summer school", "workshop.example.org", "Wi-Fi: guests")


def card(account="ws01", name="", pin="123456", link=LINK, **more):
    return AccessCard(account, name, Secret(pin), link, **more)


def image(form="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(file, form)
    return file.getvalue()


def text(cards, look=LOOK):
    return html(cards, look).content.decode()


def pages(sheet):
    return len(re.findall(rb"/Type /Page\b", sheet.content))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "123456"),
        ({"pin_changed": True}, OTHER_PIN),
        ({"pin": ""}, BY_LINK),
        ({"pin": "", "link": Secret("")}, ASK),
        ({"pin": "", "pin_changed": True}, OTHER_PIN),
    ],
)
def test_the_pin_is_the_one_that_counts_or_words(values, words):
    assert card(**values).pin_words(str) == words
    said = text([card(**values)])
    assert f">{words}</dd>" in said
    assert ("123456" in said) == (words == "123456")


def test_html_is_one_file_that_asks_nobody_and_escapes_what_it_is_told():
    look = Look("<b>x</b>", "example.org", "a & b", (image(), ".png"))
    said = text([card(name='<script>alert("x")</script>'), card("ws02", "דוד")], look)
    assert "<script>" not in said
    assert "&lt;b&gt;x&lt;/b&gt;" in said
    assert "<bdi>דוד</bdi>" in said
    assert re.findall(r"url\((?!data:image/png;base64)", said) == []
    assert re.findall(r"(?:src|href)=", said) == []
    assert said.count("data:image/png") == 1, "once for all cards"
    assert said.count("<svg") == 2
    assert LINK.reveal() not in said, "it is in the code alone"


@pytest.mark.parametrize(("count", "sheets"), [(1, 1), (10, 1), (11, 2), (25, 3)])
def test_ten_cards_are_on_a_sheet(count, sheets):
    cards = [card(f"ws{number:02}") for number in range(count)]
    assert text(cards).count('<section class="sheet">') == sheets
    sheet = pdf(cards, LOOK, [VERA])
    assert sheet.content.startswith(b"%PDF-")
    assert pages(sheet) == sheets
    assert sheet.doubts == ()


def test_letter_is_another_sheet():
    assert b"612 792" in pdf([card()], Look("x", "y", paper="letter"), [VERA]).content
    assert "size: letter" in text([card()], Look("x", "y", paper="letter"))


def test_the_same_cards_are_the_same_file():
    assert pdf([card()], LOOK, [VERA]) == pdf([card()], LOOK, [VERA])


def test_no_name_is_boxes_and_whose_is_not_written_is_told():
    names = ["Ada", "Zoë", "Nguyễn Văn A", "山田", "דוד", "محمد", "Ада", "\u0645\u0631 x", "x" * 300, "e\u0301"]
    cards = [card(f"ws{number:02}", name) for number, name in enumerate(names)]
    doubts = pdf(cards, LOOK, [VERA]).doubts
    assert doubts == (
        "ws02: the name is written without its accents, as no font that was found has them",
        "ws03, ws06: the name is left off, as no font that was found can write it; HTML cards, or --font, may",
        "ws04, ws05, ws07: the name is left off, as PDF cards cannot write from right to left; HTML cards can",
    )


def test_a_title_that_cannot_be_written_is_told_once():
    cards = [card(f"ws{number:02}") for number in range(12)]
    (doubt,) = pdf(cards, Look("Школа", "example.org"), [VERA]).doubts
    assert doubt.startswith("'Школа': left off, as no font")


@pytest.mark.parametrize(("form", "suffix"), [("PNG", ".png"), ("JPEG", ".JPG")])
def test_a_logo_is_shown(form, suffix):
    sheet = pdf([card()], Look("x", "y", logo=(image(form), suffix)), [VERA])
    assert sheet.doubts == ()
    assert b"/Subtype /Image" in sheet.content


def test_a_logo_that_a_pdf_cannot_show_is_told():
    look = Look("x", "y", logo=(b"<svg xmlns='http://www.w3.org/2000/svg'/>", ".svg"))
    assert pdf([card()], look, [VERA]).doubts == (
        "the logo: left off, as a PDF shows PNG and JPEG and no .svg; HTML cards show it",
    )
    assert "data:image/svg+xml" in text([card()], look)


def test_what_is_no_image_or_no_font_is_told():
    with pytest.raises(ValueError, match="the logo is no image"):
        pdf([card()], Look("x", "y", logo=(b"nonsense", ".png")), [VERA])
    with pytest.raises(ValueError, match="not a TrueType font"):
        pdf([card()], LOOK, [(b"nonsense", b"nonsense")])


def test_a_secret_does_not_show_itself():
    assert "123456" not in repr(card())
    assert "seat#" not in repr(card())
