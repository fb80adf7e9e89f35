"""Access cards to cut out and hand out, as PDF or as one HTML file: values in, bytes out.

Ten cards of 92 x 52 mm on a sheet, with cut marks at its edges. What the fonts at hand cannot write is not drawn as
empty boxes: it is written without its accents or left off, and `Sheet.doubts` says of which card.
"""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import jinja2
import segno
from markupsafe import Markup
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader, simpleSplit
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.pdfgen.canvas import Canvas

from vncgate.languages import N_
from vncgate.model import Secret

WIDTH, HEIGHT = 92.0, 52.0
"""Millimetres of a card."""
COLUMNS, ROWS = 2, 5
PAPERS = {"a4": A4, "letter": LETTER}
"""Sheets, in points."""
PDF_LOGOS = frozenset({".png", ".jpg", ".jpeg"})
"""Images that a PDF can show, by the names of their files."""
MEDIA_TYPES = {".svg": "svg+xml", ".png": "png", ".webp": "webp", ".gif": "gif"}
KEEP = N_("This card opens your desktop: keep it to yourself.")
SCAN = N_("Scan to sign in")
OTHER_PIN = N_("the one that you were given")
BY_LINK = N_("not needed: scan the code")
ASK = N_("ask the organizers")

GREY, BLACK = 0.38, 0.0
EDGE = 4 * mm
"""Between a card's edge and what stands on it."""
QR = 29 * mm
HEAD = 9 * mm
LABEL = 13 * mm
SMALLEST = 5.0
"""Points of a line that was too long; smaller nobody reads."""
MARK = 4 * mm
"""Length of a cut mark."""


@dataclass(frozen=True, slots=True)
class AccessCard:
    """What one person is handed. Without `link` there is no code on it; without `pin` it says how one gets in.

    With `pin_changed` the PIN of the token file counts no more, and the card does not show it.
    """

    account: str
    name: str = ""
    pin: Secret = field(default_factory=lambda: Secret(""))
    link: Secret = field(default_factory=lambda: Secret(""))
    pin_changed: bool = False

    def pin_words(self, say: Callable[[str], str]) -> str:
        """What stands behind "PIN": it, or in words what its owner does without."""
        if self.pin_changed:
            return say(OTHER_PIN)
        if self.pin:
            return self.pin.reveal()
        return say(BY_LINK if self.link else ASK)


@dataclass(frozen=True, slots=True)
class Look:
    """What all cards have. `address` is as people type it; `logo` is an image and its file name's suffix; `say`
    translates.
    """

    title: str
    address: str
    wifi: str = ""
    logo: tuple[bytes, str] | None = None
    paper: str = "a4"
    language: str = "en"
    say: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A finished file, and in words what on it is not as it should be."""

    content: bytes
    doubts: tuple[str, ...] = ()


def html(cards: Iterable[AccessCard], look: Look) -> Sheet:
    """One file that needs no other, made for printing: a browser has fonts for all scripts, and their directions."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vncgate", "render/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [
        {
            "account": card.account,
            "name": card.name,
            "pin": card.pin_words(look.say),
            "pin_is_number": bool(card.pin) and not card.pin_changed,
            "code": _svg(card.link) if card.link else "",
        }
        for card in cards
    ]
    on_a_sheet = COLUMNS * ROWS
    text = environment.get_template("access_cards.html").render(
        _=look.say,
        look=look,
        logo=_data_url(*look.logo) if look.logo else "",
        sheets=[shown[at : at + on_a_sheet] for at in range(0, len(shown), on_a_sheet)],
        width=WIDTH,
        height=HEIGHT,
        rows=ROWS,
        columns=COLUMNS,
        keep=KEEP,
        scan=SCAN,
    )
    return Sheet(text.encode())


def pdf(cards: Sequence[AccessCard], look: Look, fonts: Sequence[tuple[bytes, bytes]]) -> Sheet:
    """The same as PDF. `fonts` are TrueType files, regular and bold; what the first cannot write the next may.

    Raises ValueError where a font or the logo is none.
    """
    return _Drawing(look, fonts).draw(cards)


class _Drawing:
    """One PDF in the making."""

    def __init__(self, look: Look, fonts: Sequence[tuple[bytes, bytes]]) -> None:
        self._look = look
        self._doubts: dict[str, list[str]] = {}
        self._fonts = [_register(number, *files) for number, files in enumerate(fonts)]
        self._file = io.BytesIO()
        self._page = PAPERS[look.paper]
        self._canvas = Canvas(self._file, pagesize=self._page, invariant=1)
        self._canvas.setTitle(look.title)
        self._logo = self._read_logo()

    def draw(self, cards: Sequence[AccessCard]) -> Sheet:
        left = (self._page[0] - COLUMNS * WIDTH * mm) / 2
        top = (self._page[1] + ROWS * HEIGHT * mm) / 2
        for number, card in enumerate(cards):
            place = number % (COLUMNS * ROWS)
            if place == 0:
                if number:
                    self._canvas.showPage()
                self._cut_marks(left, top)
            row, column = divmod(place, COLUMNS)
            self._card(card, left + column * WIDTH * mm, top - (row + 1) * HEIGHT * mm)
        self._canvas.save()
        return Sheet(self._file.getvalue(), tuple(f"{several(about)}: {why}" for why, about in self._doubts.items()))

    def _cut_marks(self, left: float, top: float) -> None:
        """Outside of all cards, so that none has a line on it however it is cut."""
        self._canvas.setLineWidth(0.4)
        self._canvas.setStrokeGray(0.3)
        right, bottom = left + COLUMNS * WIDTH * mm, top - ROWS * HEIGHT * mm
        for column in range(COLUMNS + 1):
            x = left + column * WIDTH * mm
            self._canvas.line(x, top + 1, x, top + MARK)
            self._canvas.line(x, bottom - 1, x, bottom - MARK)
        for row in range(ROWS + 1):
            y = top - row * HEIGHT * mm
            self._canvas.line(left - 1, y, left - MARK, y)
            self._canvas.line(right + 1, y, right + MARK, y)

    def _card(self, card: AccessCard, x: float, y: float) -> None:
        """A head of 9 mm and four lines, the code at their right, and two kinds of small print below."""
        say, left, right, top = self._look.say, x + EDGE, x + WIDTH * mm - EDGE, y + HEIGHT * mm - EDGE
        width = right - left
        text_width = width - QR - 3 * mm if card.link else width
        self._head(left, top, text_width)
        down = top - HEAD - 13
        if card.name:
            self._line(card.name, left, down, 11, text_width, bold=True, whose=card.account)
        for label, value, size in (
            (say(N_("Account")), card.account, 13),
            (say(N_("PIN")), card.pin_words(say), 13 if card.pin and not card.pin_changed else 8.5),
            (say(N_("Address")), self._look.address, 9.5),
        ):
            down -= 17
            self._line(label, left, down, 6.5, LABEL, grey=GREY)
            self._line(value, left + LABEL, down, size, text_width - LABEL, bold=True)
        if card.link:
            self._code(card.link, right - QR, top - QR)
            self._line(say(SCAN), right - QR, top - QR - 7, 6.5, QR, grey=GREY, centred=True)
        self._small_print(left, y + EDGE - 3, width)

    def _head(self, left: float, top: float, width: float) -> None:
        if self._logo:
            wide, high = self._logo.getSize()
            scale = min(20 * mm / wide, HEAD / high)
            self._canvas.drawImage(self._logo, left, top - high * scale, wide * scale, high * scale, mask="auto")
            taken = wide * scale + 2 * mm
            left, width = left + taken, width - taken
        font, words = self._written(self._look.title, bold=True, whose="")
        for number, line in enumerate(_two_lines(words, font, 9, width)):
            self._line(line, left, top - 9 - 11 * number, 9, width, bold=True)

    def _small_print(self, left: float, bottom: float, width: float) -> None:
        self._line(self._look.say(KEEP), left, bottom, 6, width, grey=GREY)
        font, words = self._written(self._look.wifi, bold=False, whose="")
        for number, line in enumerate(reversed(_two_lines(words, font, 7, width))):
            self._line(line, left, bottom + 8.5 + 8 * number, 7, width)

    def _line(
        self,
        text: str,
        x: float,
        y: float,
        size: float,
        width: float,
        *,
        bold: bool = False,
        grey: float = BLACK,
        centred: bool = False,
        whose: str = "",
    ) -> None:
        """One line, made smaller where it is too long, and cut where it would get too small to read."""
        font, words = self._written(text, bold=bold, whose=whose)
        wide = pdfmetrics.stringWidth(words, font, size)
        if wide > width:
            size = max(size * width / wide, SMALLEST)
            while words and size == SMALLEST and pdfmetrics.stringWidth(words, font, size) > width:
                words = words[:-2].rstrip() + "…" if len(words) > 2 else ""
        self._canvas.setFillGray(grey)
        self._canvas.setFont(font, size)
        (self._canvas.drawCentredString if centred else self._canvas.drawString)(
            x + width / 2 if centred else x, y, words
        )

    def _written(self, text: str, *, bold: bool, whose: str) -> tuple[str, str]:
        """A font that has all of `text`, and what is written: without accents, or nothing, where there is none."""
        text = unicodedata.normalize("NFC", " ".join(text.split()))
        if found := self._font_for(text, bold=bold):
            return found, text
        about, what = (whose, "the name is ") if whose else (repr(text), "")
        plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
        if found := self._font_for(plain, bold=bold):
            self._doubt(about, f"{what}written without its accents, as no font that was found has them")
            return found, plain
        if _is_leftward(text):
            self._doubt(about, f"{what}left off, as PDF cards cannot write from right to left; HTML cards can")
        else:
            self._doubt(about, f"{what}left off, as no font that was found can write it; HTML cards, or --font, may")
        return self._fonts[0][bold].fontName, ""

    def _doubt(self, about: str, why: str) -> None:
        named = self._doubts.setdefault(why, [])
        if about not in named:
            named.append(about)

    def _font_for(self, text: str, *, bold: bool) -> str:
        if _is_leftward(text):
            return ""
        points = {ord(char) for char in text}
        fonts = (pair[bold] for pair in self._fonts)
        return next((font.fontName for font in fonts if points <= font.face.charToGlyph.keys()), "")

    def _code(self, link: Secret, x: float, y: float) -> None:
        matrix = _qr(link).matrix
        module = QR / len(matrix)
        path = self._canvas.beginPath()
        for number, row in enumerate(matrix):
            start = None
            for column, is_dark in enumerate((*row, 0)):
                if is_dark and start is None:
                    start = column
                elif not is_dark and start is not None:
                    below = y + QR - (number + 1) * module
                    path.rect(x + start * module, below, (column - start) * module, module)
                    start = None
        self._canvas.setFillGray(BLACK)
        self._canvas.drawPath(path, stroke=0, fill=1)

    def _read_logo(self) -> ImageReader | None:
        if self._look.logo is None:
            return None
        content, suffix = self._look.logo
        if suffix.lower() not in PDF_LOGOS:
            self._doubt("the logo", f"left off, as a PDF shows PNG and JPEG and no {suffix}; HTML cards show it")
            return None
        try:
            return ImageReader(io.BytesIO(content))
        except (OSError, ValueError) as error:
            raise ValueError(f"the logo is no image: {error}") from None


def several(names: Sequence[str]) -> str:
    """The first five, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _register(number: int, regular: bytes, bold: bytes) -> tuple[TTFont, TTFont]:
    try:
        pair = TTFont(f"cards-{number}", io.BytesIO(regular)), TTFont(f"cards-{number}-bold", io.BytesIO(bold))
    except TTFError as error:
        raise ValueError(f"not a TrueType font: {error}") from None
    for font in pair:
        pdfmetrics.registerFont(font)
    return pair


def _two_lines(text: str, font: str, size: float, width: float) -> list[str]:
    first, *rest = simpleSplit(text, font, size, width) or [""]
    return [first, " ".join(rest)] if rest else [first]


def _is_leftward(text: str) -> bool:
    return any(unicodedata.bidirectional(char) in ("R", "AL") for char in text)


def _qr(link: Secret) -> segno.QRCode:
    """Any mask is valid (ISO/IEC 18004, 7.8). Of a text that is mostly a signature none is much worse than another, and
    to choose among them takes four fifths of the time.
    """
    return segno.make_qr(link.reveal(), error="m", mask=5)


def _svg(link: Secret) -> Markup:
    return Markup(_qr(link).svg_inline(scale=1, border=0, omitsize=True))  # noqa: S704 (made of squares alone)


def _data_url(content: bytes, suffix: str) -> str:
    """The image inside the style sheet, once for all cards."""
    kind = MEDIA_TYPES.get(suffix.lower(), "jpeg")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
