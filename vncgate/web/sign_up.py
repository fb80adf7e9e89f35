"""Signing up, what who signed up is shown, and the page about personal data (access `seat`).

GET, POST /sign-up           the form
GET  /sign-up/seat           account, PIN, link, access information, for printing; or the place on the waiting list
POST /sign-up/enter          take the seat that became free, in the browser that signed up
POST /sign-up/leave          leave the waiting list
POST /sign-up/pin            a new PIN for the own seat
GET  /privacy                what is kept of people, and why
GET  /privacy/data.json      all that is kept of who asks
POST /privacy/delete         delete it, and give the seat back

A cookie has the secret key of the form that was sent. With it the browser is shown the PIN, which follows from it, for
as long as that is the seat's, and who waits for a seat is known again. It opens a seat once (`SigningUp.collect`).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import segno
from aiohttp import web
from markupsafe import Markup

from vncgate.errors import FullError, LedgerError, SeatTakenError
from vncgate.languages import N_
from vncgate.model import Secret
from vncgate.people import Person, Session, Standing
from vncgate.pins import DIGITS, BusyError, Pins
from vncgate.render.pages import markdown
from vncgate.seating import Entry
from vncgate.signing_up import Phase
from vncgate.signup_form import KEY, Faults, Filled, faults, pin_of, read
from vncgate.signup_settings import FieldType, SignupField
from vncgate.web.doorkeeper import NOT_SECURE, TOO_OLD, root
from vncgate.web.lobby import Lobby
from vncgate.web.tongues import LANGUAGE

SHOWN_FOR = 3600
"""Seconds for which a browser that has a seat is shown its PIN."""
WAITS_FOR = 90 * 24 * 3600
"""Seconds for which a browser knows that its person waits."""
COMPLETED_BY = {
    "name": "name",
    "email": "email",
    "phone": "tel",
    "organization": "organization",
    "country": "country-name",
}
"""What browsers fill in by themselves, by the names of fields (HTML, section 4.10.18.7; WCAG 2.2, 1.3.5)."""
TOO_MANY = N_("Very many people are signing up from your network. Please try again in {seconds} s; nothing is lost.")
TOO_MANY_CODES = N_("There were too many wrong codes from your network. Please try again in {minutes} min.")
BUSY = N_("Too many people are signing up right now. Please send the form again in a moment; nothing is lost.")
AWAY = N_("Signing up does not work at the moment. Please send the form again soon; nothing is lost.")
NOBODY = N_("Nothing is kept of you here, or you are not signed in.")
CONFIRM = N_("Please tick the box if all of it is to be deleted.")


def add(app: web.Application, lobby: Lobby) -> None:
    """Put these pages into the application."""
    pages = SignUp(lobby)
    if lobby.settings.signup.enabled:
        app.router.add_get("/sign-up", pages.form)
        app.router.add_post("/sign-up", pages.sign_up)
        app.router.add_post("/sign-up/enter", pages.enter)
        app.router.add_post("/sign-up/leave", pages.leave)
    app.router.add_get("/sign-up/seat", pages.seat)
    app.router.add_post("/sign-up/pin", pages.new_pin)
    app.router.add_get("/privacy", pages.privacy)
    app.router.add_get("/privacy/data.json", pages.data)
    app.router.add_post("/privacy/delete", pages.delete)


class SignUp:
    """The handlers."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby
        self._door = lobby.doorkeeper
        self._settings = lobby.settings.signup
        self._seating = lobby.participants.seating
        self._signing_up = lobby.participants.signing_up
        self._pins = Pins()
        self._is_secure = lobby.settings.public_url.startswith("https:")
        self._cookie = "__Host-vncgate_signup" if self._is_secure else "vncgate_signup"

    # ---- the form ----

    async def form(self, request: web.Request) -> web.Response:
        """The form; or why there is none."""
        if not self._door.is_secure(request):
            raise web.HTTPForbidden(text=NOT_SECURE)
        if await self._own(request) or await self._waiting(request):
            raise web.HTTPSeeOther(root(request) + "sign-up/seat")
        return await self._form(request, Filled(key=secrets.token_urlsafe(16)), {})

    async def sign_up(self, request: web.Request) -> web.Response:
        """The form is sent. Who sent it before is led to the same seat, whatever else has changed."""
        if await self._own(request):
            raise web.HTTPSeeOther(root(request) + "sign-up/seat")
        given = await self._door.form(request)
        filled = read(self._settings.questions, given)
        if not filled.key:
            raise web.HTTPBadRequest(text=TOO_OLD)
        try:
            person = await self._signing_up.known(filled.key)
            if person is None:
                if self._signing_up.phase is not Phase.OPEN:
                    return await self._form(request, filled, {})
                if refusal := await self._refusal(request, filled):
                    return refusal
                person = await self._signing_up.sign_up(self._accepted(request, filled), request[LANGUAGE].code)
            return await self._welcome(request, person, filled.key)
        except FullError:
            return await self._form(request, filled, {})
        except BusyError:
            return await self._form(request, filled, {}, status=503, trouble=BUSY, wait=2.0)
        except LedgerError:
            return await self._form(request, filled, {}, status=503, trouble=AWAY, wait=10.0)

    async def _refusal(self, request: web.Request, filled: Filled) -> web.Response | None:
        """The form again, where something about it is wrong."""
        client, language, texts = self._door.client(request), request[LANGUAGE].code, self._signing_up.texts
        await texts.look_again()
        if texts.code and (wait := self._signing_up.wait_for_code(client)):
            words = N_(TOO_MANY_CODES.message, minutes=math.ceil(wait / 60))
            return await self._form(request, filled, {"code": words}, status=429, wait=wait)
        documents = {document.name: document.digest for document in texts.documents(language)}
        wrong = faults(self._settings.questions, documents, texts.code, filled, language)
        if "code" in wrong and filled.code:
            self._signing_up.wrong_code(client)
        if wrong:
            return await self._form(request, filled, wrong, status=422)
        if wait := self._signing_up.wait(client):
            words = N_(TOO_MANY.message, seconds=math.ceil(wait))
            return await self._form(request, filled, {}, status=429, trouble=words, wait=wait)
        return None

    def _accepted(self, request: web.Request, filled: Filled) -> Filled:
        """The form with nothing accepted but what there was to accept."""
        names = [document.name for document in self._signing_up.texts.documents(request[LANGUAGE].code)]
        return Filled(filled.answers, {name: filled.accepted[name] for name in names}, key=filled.key)

    async def _welcome(self, request: web.Request, person: Person, key: str) -> web.Response:
        """Lead somebody who has signed up to their seat, signed in if it is time for that."""
        if person.standing is Standing.LEFT:
            response = web.Response(status=303, headers={"Location": root(request) + "sign-up"})
            self._forget_key(response)
            return response
        response = web.Response(status=303, headers={"Location": root(request) + "sign-up/seat"})
        self._keep_key(response, key, SHOWN_FOR if person.standing is Standing.SEATED else WAITS_FOR)
        if await self._signing_up.collect(person, key):
            entry = await self._seating.begin(person.account, person.id)
            if isinstance(entry, Entry):
                self._door.let_in(response, entry)
        return response

    async def _form(
        self,
        request: web.Request,
        filled: Filled,
        wrong: Faults,
        *,
        status: int = 200,
        trouble: str = "",
        wait: float = 0.0,
    ) -> web.Response:
        """The form's page, with all that was typed, and what is wrong with it; without the form where it is closed."""
        words, signing_up = request[LANGUAGE], self._signing_up
        await signing_up.texts.look_again()
        is_full = signing_up.phase is Phase.OPEN and not trouble and await signing_up.is_full()
        documents = [
            {
                "name": f"accept.{each.name}",
                "title": each.title,
                "html": Markup(markdown(each.text)),  # noqa: S704 (raw HTML in it was escaped)
                "digest": each.digest,
                "ticked": filled.accepted.get(each.name) == each.digest,
            }
            for each in signing_up.texts.documents(words.code)
        ]
        response = await self._lobby.page(
            request,
            "sign_up.html",
            status=status,
            phase=signing_up.phase.value,
            opens=signing_up.opens,
            closes=self._settings.closes,
            is_full=is_full,
            waiting=self._settings.waiting,
            fields=[_shown(field, filled, words.code) for field in self._settings.questions],
            documents=documents,
            has_code=bool(signing_up.texts.code),
            code=filled.code,
            key=filled.key,
            wrong={name: words.of(text) for name, text in wrong.items()},
            trouble=words.of(trouble),
        )
        if wait:
            response.headers["Retry-After"] = str(math.ceil(wait))
        return response

    # ---- who has signed up ----

    async def seat(self, request: web.Request) -> web.Response:
        """All that somebody needs to come in; or their place on the waiting list."""
        if session := await self._own(request):
            return await self._seat(request, session)
        if (person := await self._waiting(request)) is None:
            raise web.HTTPSeeOther(root(request))
        is_seated = person.standing is Standing.SEATED
        place = 0 if is_seated else await self._signing_up.place(person)
        return await self._lobby.page(request, "waiting.html", is_seated=is_seated, place=place)

    async def enter(self, request: web.Request) -> web.Response:
        """Who waited takes the seat that is theirs now."""
        await self._door.form(request)
        if (person := await self._waiting(request)) is None:
            raise web.HTTPSeeOther(root(request))
        return await self._welcome(request, person, self._key(request))

    async def leave(self, request: web.Request) -> web.Response:
        """Who waits does so no longer."""
        await self._door.form(request)
        if person := await self._waiting(request):
            await self._signing_up.leave(person)
        response = web.Response(status=303, headers={"Location": root(request)})
        self._forget_key(response)
        return response

    async def new_pin(self, request: web.Request) -> web.Response:
        """Another PIN for the own seat, shown on its page."""
        await self._door.form(request)
        session = await self._own(request)
        if session is None:
            raise web.HTTPSeeOther(root(request))
        key, epoch = secrets.token_urlsafe(16), self._seating.seat(session.seat).epoch
        pin = Secret(pin_of(key, DIGITS))
        try:
            await self._seating.new_pin(session.seat, f"seat {session.seat}", pin, at_epoch=epoch)
        except BusyError:
            raise web.HTTPServiceUnavailable(text=BUSY) from None
        except SeatTakenError:  # it was revoked in this moment, and they are signed out
            raise web.HTTPSeeOther(root(request)) from None
        response = web.Response(status=303, headers={"Location": root(request) + "sign-up/seat"})
        self._keep_key(response, key, SHOWN_FOR)
        return response

    async def _seat(self, request: web.Request, session: Session) -> web.Response:
        link, desk = self._seating.link(session.seat).reveal(), self._seating.desk(session)
        information = self._settings.information.words(request[LANGUAGE].code)
        return await self._lobby.page(
            request,
            "access.html",
            account=session.seat,
            pin=await self._pin(request, session.seat),
            address=self._lobby.settings.public_url,
            link=link,
            code=segno.make(link, error="m", micro=False).svg_data_uri(scale=4, border=2, light="#fff"),
            desk=f"desk/{quote(desk.path, safe='')}/" if desk else "",
            information=Markup(markdown(information)),  # noqa: S704 (raw HTML in it was escaped)
        )

    async def _pin(self, request: web.Request, account: str) -> str:
        """The seat's PIN, where this browser made it; else empty: it is kept nowhere."""
        key, encoded = self._key(request), self._seating.seat(account).pin_hash
        if not key or not encoded:
            return ""
        pin = Secret(pin_of(key, DIGITS))
        try:
            return pin.reveal() if await self._pins.fits(pin, encoded, Secret("")) else ""
        except BusyError:
            return ""

    # ---- personal data ----

    async def privacy(self, request: web.Request, *, status: int = 200, trouble: str = "") -> web.Response:
        """What is kept, and why; for who is known, what can be done about it."""
        words = request[LANGUAGE]
        person = await self._person(request)
        return await self._lobby.page(
            request,
            "privacy.html",
            status=status,
            own=Markup(markdown(self._settings.privacy.words(words.code))),  # noqa: S704 (raw HTML was escaped)
            fields=[field.label.words(words.code) for field in self._settings.questions],
            documents=[document.title for document in self._signing_up.texts.documents(words.code)],
            mails=self._signing_up.mailing is not None,
            hours=self._lobby.settings.seats.session_hours,
            purge=self._lobby.settings.workshop.purge,
            is_known=person is not None,
            has_seat=person is not None and person.standing is Standing.SEATED,
            is_gone="gone" in request.query,
            trouble=words.of(trouble),
        )

    async def data(self, request: web.Request) -> web.Response:
        """All that is kept of who asks, as a file."""
        if (person := await self._person(request)) is None:
            raise web.HTTPNotFound(text=NOBODY)
        response = web.json_response(await self._signing_up.about(person))
        response.headers["Content-Disposition"] = 'attachment; filename="my-data.json"'
        response.headers["Cache-Control"] = "no-store"
        return response

    async def delete(self, request: web.Request) -> web.Response:
        """Delete it, once they say so."""
        form = await self._door.form(request)
        if (person := await self._person(request)) is None:
            raise web.HTTPNotFound(text=NOBODY)
        if not form.get("confirm"):
            return await self.privacy(request, status=422, trouble=CONFIRM)
        await self._signing_up.forget(person)
        response = web.Response(status=303, headers={"Location": root(request) + "privacy?gone"})
        self._door.let_out(response)
        self._forget_key(response)
        return response

    # ---- who it is ----

    async def _own(self, request: web.Request) -> Session | None:
        """The session of who is signed in on a seat of their own."""
        session = await self._door.session(request)
        return session if session and session.seat and not session.share else None

    async def _waiting(self, request: web.Request) -> Person | None:
        """Who signed up in this browser, and waits, or has a seat by now that nobody has taken yet."""
        person = await self._signing_up.known(self._key(request))
        if person is None or person.standing is Standing.LEFT:
            return None
        if person.standing is Standing.SEATED and not await self._signing_up.is_to_be_collected(person):
            return None
        return person

    async def _person(self, request: web.Request) -> Person | None:
        """Whose data it is that can be asked for here."""
        if session := await self._own(request):
            return await self._signing_up.person_of(session.seat)
        return await self._waiting(request)

    def _key(self, request: web.Request) -> str:
        key = request.cookies.get(self._cookie, "")
        return key if KEY.fullmatch(key) and self._door.is_secure(request) else ""

    def _keep_key(self, response: web.Response, key: str, seconds: int) -> None:
        response.set_cookie(
            self._cookie, key, max_age=seconds, path="/", secure=self._is_secure, httponly=True, samesite="Lax"
        )

    def _forget_key(self, response: web.Response) -> None:
        response.del_cookie(self._cookie, path="/", secure=self._is_secure, httponly=True, samesite="Lax")


def _shown(field: SignupField, filled: Filled, language: str) -> Mapping[str, Any]:
    """A field as the template has it."""
    return {
        "name": f"answer.{field.name}",
        "type": field.type.value,
        "label": field.label.words(language),
        "help": field.help.words(language),
        "required": field.required,
        "value": filled.answers.get(field.name, ""),
        "options": [{"value": each.value, "label": each.label.words(language)} for each in field.options],
        "autocomplete": COMPLETED_BY.get(field.name, "tel" if field.type is FieldType.TEL else ""),
    }
