"""Mails to those who sign up: written from templates, queued in the ledger, and sent when the server takes them.

Nobody waits for a mail: `queue()` writes it down, and `run()` sends it, again and again with growing pauses while the
server is away or says "later" (4xx; RFC 5321, section 4.2.1). What it refuses for good (5xx) is given up, and stands in
the audit log. Neither addresses nor names are logged, nor what a server says, as that may have them in it.

It imports aiosmtplib: the daemon imports it only where mails are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as RFC_5322
from email.utils import format_datetime, parseaddr

import aiosmtplib
import jinja2

from vncgate.errors import LedgerError, SettingsError
from vncgate.languages import Languages, Words
from vncgate.ledger import Ledger
from vncgate.model import Secret
from vncgate.people import AuditEntry, Mail, Person
from vncgate.settings import Settings
from vncgate.signup_form import is_email
from vncgate.signup_settings import MailSettings

log = logging.getLogger(__name__)

TEMPLATES = ("mail_seat.txt", "mail_moved_up.txt", "mail_waiting.txt")
"""The mails: the first line is the subject, the rest the text. A site may replace each (landing.templates)."""
POLL = 10.0
"""Seconds between two looks at what is due."""
BATCH = 20
"""Mails that go over one connection."""
TIMEOUT = 20.0
"""Seconds that the server may take for one answer."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
"""Between two tries; each pause is twice the one before."""
MOST_TRIES = 53
"""Tries of a mail: those of two days."""
BY = "mail"
"""Who the audit log says it was."""


def read(
    settings: Settings, languages: Languages
) -> tuple[Secret, ssl.SSLContext | None, dict[tuple[str, str], jinja2.Template]]:
    """The server's password, what its certificate is checked with, and the templates by language and name.

    It blocks; raises SettingsError where one of them is of no use.
    """
    environments = {code: _environment(settings, words) for code, words in languages.items()}
    templates = {(code, name): _template(environments[code], name) for code in languages for name in TEMPLATES}
    return _password(settings.mail), _tls(settings.mail), templates


class Mailing:
    """It reads templates and password as it is made, which blocks; raises SettingsError where one is of no use."""

    def __init__(
        self,
        settings: Settings,
        languages: Languages,
        ledger: Ledger,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings.mail
        self._ledger = ledger
        self._now = now
        self._more = asyncio.Event()
        self._password, self._tls, self._templates = read(settings, languages)
        self._default = languages.default.code

    async def queue(self, person: Person, template: str, values: Mapping[str, object]) -> None:
        """Have a mail sent to somebody, in their language; the same one twice is one. Raises LedgerError."""
        if mail := self._written(person, template, values):
            await self._ledger.queue_mail(mail)
            self._more.set()

    async def write(self, planned: Mail, person: Person, template: str, values: Mapping[str, object]) -> None:
        """Have a mail sent that the ledger has planned. Raises LedgerError; then it is still planned."""
        if mail := self._written(person, template, values):
            await self._ledger.write_mail(mail)
            self._more.set()
        else:
            await self._ledger.mail_sent(planned.id)

    async def run(self) -> None:
        """Send what is due; until cancelled."""
        while True:
            self._more.clear()
            try:
                while mails := await self._ledger.due_mails(self._now(), BATCH):
                    await self._send(mails)
            except LedgerError as error:
                log.warning("%s; mails wait", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._more.wait()

    def _written(self, person: Person, template: str, values: Mapping[str, object]) -> Mail | None:
        """A mail; None where a template of the site's own cannot be filled in: nobody who signs up can mend it."""
        language = person.language if (person.language, template) in self._templates else self._default
        try:
            written = self._templates[language, template].render(values, person=person)
        except jinja2.TemplateError as error:
            log.error("template %s: %s; no mail is sent", template, error.message)
            return None
        subject, _, text = written.strip().partition("\n")
        return Mail(
            f"{person.id}.{template}", person.id, person.email, subject.strip(), text.strip() + "\n", self._now()
        )

    async def _send(self, mails: Sequence[Mail]) -> None:
        """Send mails over one connection; each is sent, given up, or due later."""
        waiting = list(mails)
        try:
            async with self._connection() as server:
                while waiting:
                    try:
                        await self._send_one(server, waiting[0])
                    except (aiosmtplib.SMTPException, OSError, LedgerError):
                        raise
                    except Exception as error:  # noqa: BLE001 - a defect, which one mail may bring out, ends no others
                        log.error("a mail waits: %s", type(error).__name__)  # what it says may have an address
                        await self._later(waiting[0])
                    waiting.pop(0)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            log.warning("the mail server does not take mails (%s); they are tried again", _why(error))
            for mail in waiting:
                await self._later(mail)

    async def _send_one(self, server: aiosmtplib.SMTP, mail: Mail) -> None:
        """Raises what concerns the connection, and not this mail alone."""
        try:
            message = compose(mail, self._settings.sender, self._now())
        except ValueError:
            await self._give_up(mail, "no address")
            return
        try:
            await server.send_message(message)
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
            raise
        except aiosmtplib.SMTPException as error:
            if _code(error) >= 500 or isinstance(error, aiosmtplib.SMTPNotSupported):
                await self._give_up(mail, _why(error))
            else:
                log.warning("a mail was not taken (%s); it is tried again", _why(error))
                await self._later(mail)
        else:
            await self._ledger.mail_sent(mail.id)

    async def _later(self, mail: Mail) -> None:
        if mail.tries + 1 >= MOST_TRIES:
            await self._give_up(mail, "after many tries")
            return
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(mail.tries, 10))
        await self._ledger.mail_failed(mail.id, self._now() + pause)

    async def _give_up(self, mail: Mail, why: str) -> None:
        log.warning("a mail was given up (%s); the audit log says whose", why)
        await self._ledger.mail_sent(mail.id)
        await self._ledger.note(AuditEntry(self._now(), BY, f"mail given up ({why})", mail.person))

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[aiosmtplib.SMTP]:
        settings = self._settings
        server = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.at,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            tls_context=self._tls,
            username=settings.user or None,
            password=self._password.reveal() or None,
            timeout=TIMEOUT,
        )
        try:
            await server.connect()
            yield server
            with contextlib.suppress(aiosmtplib.SMTPException):
                await server.quit()
        finally:
            server.close()


def compose(mail: Mail, sender: str, when: datetime) -> EmailMessage:
    """The message. Raises ValueError where its address is none (RFC 5322), or something in it would add a header."""
    if not is_email(mail.to):
        raise ValueError("no address")
    user, _, domain = mail.to.rpartition("@")
    message = EmailMessage(policy=RFC_5322)
    name, address = parseaddr(sender)
    message["From"] = Address(name, addr_spec=address)
    try:
        message["To"] = Address(addr_spec=f"{user}@{domain.encode('idna').decode()}")
    except (HeaderParseError, IndexError) as error:  # as the parser raises for some
        raise ValueError("no address") from error
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(when)
    message["Message-ID"] = f"<{mail.id}@{address.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834, section 5: nobody's holiday answers it
    message.set_content(mail.text)
    return message


def _code(error: aiosmtplib.SMTPException) -> int:
    """What the server answered; 0: it did not. For several recipients there is one answer, as there is one of them."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return max((_code(each) for each in error.recipients), default=0)
    return error.code if isinstance(error, aiosmtplib.SMTPResponseException) else 0


def _why(error: Exception) -> str:
    code = _code(error) if isinstance(error, aiosmtplib.SMTPException) else 0
    return f"it answers {code}" if code else type(error).__name__


def _environment(settings: Settings, words: Words) -> jinja2.Environment:
    own = settings.landing.templates
    loaders = [jinja2.FileSystemLoader(own)] if own else []
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([*loaders, jinja2.PackageLoader("vncgate", "web/templates")]),
        autoescape=False,  # noqa: S701  (it is plain text)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(words, newstyle=True)  # type: ignore[attr-defined]
    title = words.gettext(settings.workshop.title or settings.landing.title)
    environment.globals |= {"title": title, "url": settings.public_url}
    return environment


def _template(environment: jinja2.Environment, name: str) -> jinja2.Template:
    try:
        return environment.get_template(name)
    except jinja2.TemplateSyntaxError as error:
        raise SettingsError(f"{error.filename or error.name}:{error.lineno}: {error.message}") from None
    except (jinja2.TemplateNotFound, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"template {name} cannot be read: {error}") from None


def _password(settings: MailSettings) -> Secret:
    if settings.password_file is None:
        return Secret("")
    try:
        return Secret(next(iter(settings.password_file.read_text().splitlines()), ""))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"mail.password_file: {settings.password_file} cannot be read: {error}") from None


def _tls(settings: MailSettings) -> ssl.SSLContext | None:
    if settings.security == "none":
        return None
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"mail.ca_file: {settings.ca_file} cannot be used: {error.strerror}") from None
