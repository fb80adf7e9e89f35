"""`vncgate cards`: access cards to hand out, from the token file, the settings, and the ledger where there is one."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vncgate import settings
from vncgate.cli.config import add_config, spoken
from vncgate.errors import PrintError, SettingsError, TokensError
from vncgate.files import state_folder, write_private
from vncgate.model import Account, Roster, Secret
from vncgate.people import Person, Seat
from vncgate.roster import load_tokens
from vncgate.seat_links import SeatLink, seat_token
from vncgate.settings import Access, Settings

if TYPE_CHECKING:
    from vncgate.render.access_cards import AccessCard, Look, Sheet

FONTS = (
    "/usr/share/fonts/truetype/dejavu",  # Debian, Ubuntu
    "/usr/share/fonts/dejavu-sans-fonts",  # Fedora, RHEL
    "/usr/share/fonts/dejavu",
    "/usr/share/fonts/TTF",  # Arch
)
"""Where distributions have DejaVu Sans, which writes Latin, Greek, Cyrillic and more, and may be embedded."""
NO_FONT = (
    "no DejaVu Sans was found (Debian: fonts-dejavu-core), so the cards are written in one that has Western European "
    "letters alone; --font names another"
)
Known = Mapping[str, tuple[Seat, Person | None]]


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    words = "print access cards to hand out"
    cards = commands.add_parser(
        "cards",
        help=words,
        description="Print access cards to hand out, ten on a sheet with cut marks: account, PIN, address, and a code "
        "that opens the seat. Whoever has a card can use its desktop; the file is readable by you alone.",
    )
    flag = cards.add_argument
    flag("tokens", type=Path, metavar="TOKENS", help="the token file (tokens new --pins gives it PINs)")
    flag("-o", dest="output", type=_output, required=True, metavar="FILE", help="the new file: NAME.pdf or NAME.html")
    flag("--force", action="store_true", help="write it over one that is there")
    flag("--no-links", action="store_true", help="without the code, so that the key of links is not needed")
    flag("--paper", choices=("a4", "letter"), default="a4", help="the sheets (default: a4)")
    flag("--language", metavar="CODE", help="of the words on them, such as de (default: the site's)")
    flag("--title", help="heading (default: workshop.title, or the landing page's)")
    flag("--wifi", help="what they say of the network (default: workshop.wifi)")
    flag("--logo", type=Path, metavar="FILE", help="PNG or JPEG (default: landing.logo)")
    flag(
        "--font", type=Path, metavar="FILE", action="append", default=[], help="TrueType font for PDF, before DejaVu's"
    )
    add_config(cards)
    cards.set_defaults(run=_run)


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".pdf", ".html"):
        raise argparse.ArgumentTypeError("its name must end in .pdf or .html")
    return path


def _run(args: argparse.Namespace) -> int:
    if args.output.exists() and not args.force:
        raise PrintError(f"{args.output}: is there already and stays as it is; name another file, or give --force")
    chosen = settings.load(args.config, os.environ)
    if chosen.access is not Access.SEAT:
        raise SettingsError('access: cards open seats, and there are none with access = "vnc"; write access = "seat"')
    parsed = load_tokens(args.tokens)
    if parsed.errors:
        raise TokensError(f"{args.tokens} has errors; vncgate check lists them")
    if not parsed.roster:
        raise TokensError(f"{args.tokens} has no accounts")
    folder = state_folder(os.environ, os.getuid())
    key = b"" if args.no_links else _key(chosen.seats.key or folder / "seats.key")
    known = asyncio.run(_known(chosen, folder))
    expires = _expiry(chosen, datetime.now(UTC))
    cards = [_card(account, known, key, chosen.public_url, expires) for account in parsed.roster.values()]
    sheet = _draw(args, cards, _look(args, chosen))
    for words in (*_doubts(parsed.roster, cards, known, chosen, expires), *sheet.doubts):
        print(f"vncgate: warning: {words}", file=sys.stderr)
    try:
        write_private(args.output, sheet.content, over=args.force)
    except OSError as error:
        raise PrintError(f"{args.output}: cannot be written: {error.strerror}") from None
    print(f"{args.output}: {len(cards)} card{'' if len(cards) == 1 else 's'}, readable by you alone")
    return 0


def _key(path: Path) -> bytes:
    """What signs links; never made here: it must be the gate's own."""
    otherwise = "or leave the codes off with --no-links"
    try:
        key = path.read_bytes().strip()
    except FileNotFoundError:
        raise PrintError(
            f"there is no key of links yet ({path}): start the gate once with these settings, {otherwise}"
        ) from None
    except OSError as error:
        raise PrintError(
            f"the key of links, {path}, cannot be read ({error.strerror}): use the gate's user or root, {otherwise}"
        ) from None
    return key


async def _known(chosen: Settings, folder: Path) -> Known:
    """Seats that the ledger knows, with who sits there. Empty where there is no ledger yet."""
    if not chosen.seats.ledger and not (folder / "ledger.sqlite").exists():
        return {}
    from vncgate.ledger import Ledger
    from vncgate.participants import ledger_url  # SQLAlchemy takes half a second

    ledger = await Ledger.open(ledger_url(chosen, folder))
    try:
        people = {person.id: person for person in await ledger.people()}
        return {name: (seat, people.get(seat.person)) for name, seat in (await ledger.seats()).items()}
    finally:
        await ledger.aclose()


def _expiry(chosen: Settings, now: datetime) -> datetime:
    """Cards are printed days before: their links last to the end, if that is later than those that are sent."""
    days = now + timedelta(days=chosen.seats.link_days)
    return max(filter(None, (days, chosen.workshop.closes, chosen.workshop.files_until)))


def _card(account: Account, known: Known, key: bytes, url: str, expires: datetime) -> AccessCard:
    from vncgate.render.access_cards import AccessCard

    seat, person = known.get(account.name, (Seat(account.name), None))
    link = Secret("")
    if key:
        token = seat_token(key, SeatLink(account.name, int(expires.timestamp()), seat.epoch))
        link = Secret(f"{url}seat#{token}")
    name = person.name if person else account.display_name
    return AccessCard(account.name, name, account.pin, link, pin_changed=bool(seat.pin_hash))


def _doubts(
    roster: Roster, cards: list[AccessCard], known: Known, chosen: Settings, expires: datetime
) -> Iterator[str]:
    from vncgate.render.access_cards import several
    from vncgate.seat_memory import REVOKED

    revoked = [name for name, (seat, _) in known.items() if seat.pin_hash == REVOKED and name in roster]
    if revoked:
        yield f"{several(revoked)}: is revoked, so that no card opens it before it has a new PIN"
    if changed := [card.account for card in cards if card.pin_changed and card.account not in revoked]:
        yield f"{several(changed)}: there is a newer PIN than that of the token file, so the card has none"
    if without := [card.account for card in cards if not card.pin and not card.pin_changed]:
        yield f"{several(without)}: no pin= in the token file, so the card has none"
    begins = chosen.workshop.doors_open
    if begins and begins > expires and any(card.link for card in cards):
        yield "the codes expire before the doors open: write workshop.ends, or a longer seats.link_days"
    if strange := [name for name in known if name not in roster]:
        yield f"{several(strange)}: has a seat in the ledger, and no account in this token file"


def _look(args: argparse.Namespace, chosen: Settings) -> Look:
    from vncgate.render.access_cards import Look

    words = spoken(chosen, args.language)
    file = args.logo or chosen.landing.logo
    try:
        logo = (file.read_bytes(), file.suffix) if file else None
    except OSError as error:
        raise PrintError(f"the logo {file} cannot be read: {error.strerror}") from None
    address = urlsplit(chosen.public_url)
    return Look(
        title=args.title or chosen.workshop.title or chosen.landing.title,
        address=f"{address.netloc}{address.path}".rstrip("/"),
        wifi=chosen.workshop.wifi if args.wifi is None else args.wifi,
        logo=logo,
        paper=args.paper,
        language=words.code,
        say=words.of,
    )


def _draw(args: argparse.Namespace, cards: list[AccessCard], look: Look) -> Sheet:
    from vncgate.render import access_cards

    if args.output.suffix.lower() == ".html":
        return access_cards.html(cards, look)
    fonts, trouble = _fonts(args.font)
    try:
        sheet = access_cards.pdf(cards, look, fonts)
    except ValueError as error:
        raise PrintError(str(error)) from None
    return access_cards.Sheet(sheet.content, (*trouble, *sheet.doubts))


def _fonts(named: list[Path]) -> tuple[list[tuple[bytes, bytes]], list[str]]:
    """The fonts to write with, regular and bold, and what is to be said of them."""
    try:
        fonts = [(file.read_bytes(), file.read_bytes()) for file in named]
    except OSError as error:
        raise PrintError(f"the font {error.filename} cannot be read: {error.strerror}") from None
    for folder in map(Path, FONTS):
        if (folder / "DejaVuSans.ttf").is_file() and (folder / "DejaVuSans-Bold.ttf").is_file():
            pair = (folder / "DejaVuSans.ttf").read_bytes(), (folder / "DejaVuSans-Bold.ttf").read_bytes()
            return [*fonts, pair], []
    import reportlab

    vera = Path(reportlab.__file__).parent / "fonts"
    fonts.append(((vera / "Vera.ttf").read_bytes(), (vera / "VeraBd.ttf").read_bytes()))
    return fonts, [] if named else [NO_FONT]
