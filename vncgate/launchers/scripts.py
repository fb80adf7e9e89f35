"""What is executed to make a desktop: scripts rendered from templates that a site can replace. Text in, text out.

Templates are read when they are needed, so that a change counts for the next desktop. A file system may hang: render by
way of `Scripts.files`, outside of the loop.

Whatever `{{ }}` puts into a template is quoted for the file's language by the template engine, not by whoever wrote the
template: a name with a quote, a newline or `$()` in it is a name and nothing else.
"""

from __future__ import annotations

import enum
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from vncgate.errors import LaunchError
from vncgate.kinds import DockerPlace, SlurmPlace, Wrap
from vncgate.launchers import apptainer, container
from vncgate.launchers.base import Spec, binds
from vncgate.launchers.container import Container, Person
from vncgate.launchers.share import Share

LONGEST_SOCKET = 107
"""Bytes that the path of a unix socket may have (unix(7))."""

_SPECIAL = re.compile(r"[^\w@%+=:,./-]")
_QUOTED = {"\\": r"\\", "'": r"\'", "\n": r"$'\n'", "\r": r"$'\r'"}
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


class Listen(enum.StrEnum):
    """Where a desktop's VNC server listens."""

    SOCKET = "socket"
    """On the unix socket `vnc.sock` in the session's folder alone."""
    LOOPBACK = "loopback"
    """On a port of its host's loopback interface."""
    NETWORK = "network"
    """On a port of all interfaces of its host."""


def quote(text: object) -> str:
    """`text` as one word of bash; a list or tuple as its words. Raises LaunchError for a NUL: no word can have it."""
    if isinstance(text, list | tuple):
        return " ".join(map(quote, text))
    if "\0" in str(text):
        raise LaunchError(f"{text!r} has a NUL character, which no command can be given")
    return shlex.quote(str(text))


def quote_job(text: object) -> str:
    r"""`text` as one word of a job script: of bash, and of sbatch's #SBATCH lines; a list or tuple as its words.

    Both know single quotes, but sbatch sees backslashes in them too, and outside of them no escaped blanks. An end of
    line is one to bash alone: no #SBATCH line can have it, and none is ended by it. Raises LaunchError for a NUL.
    """
    if isinstance(text, list | tuple):
        return " ".join(map(quote_job, text))
    if "\0" in str(text):
        raise LaunchError(f"{text!r} has a NUL character, which no command can be given")
    pieces = re.split(r"([\\'\n\r])", str(text))
    return "".join(_QUOTED.get(it) or (f"'{it}'" if _SPECIAL.search(it) else it) for it in pieces) or "''"


class _SiteLoader(jinja2.FileSystemLoader):
    """A site's own templates. What has the name of one and is no file is not passed over, nor waited for (a pipe)."""

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        for folder in self.searchpath:
            path = Path(folder, template)
            if path.exists() and not path.is_file():
                raise LaunchError(f"template {path} is no regular file")
        return super().get_source(environment, template)


class Templates:
    """Templates of one language: those of the site's `folder` before ours; `quote` writes a value in that language."""

    def __init__(self, folder: Path | None, quote: Callable[[Any], str]) -> None:
        own = [_SiteLoader(folder)] if folder else []
        self._environment = jinja2.Environment(  # noqa: S701 - `quote` does what autoescape would do for HTML
            loader=jinja2.ChoiceLoader([*own, jinja2.PackageLoader("vncgate", "launchers/templates")]),
            finalize=quote,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def render(self, name: str, /, **values: object) -> str:
        """The template's text with `values`. Raises LaunchError that names file and line of a template that fails."""
        try:
            return self._environment.get_template(name).render(values)
        except jinja2.TemplateSyntaxError as error:
            raise LaunchError(f"{error.filename or error.name}:{error.lineno}: {error.message}") from None
        except jinja2.TemplateNotFound as error:
            raise LaunchError(f"there is no template {error.name}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise LaunchError(f"template {name} cannot be read: {error}") from None
        except LaunchError:
            raise
        except Exception as error:  # noqa: BLE001 - a template can raise anything
            raise LaunchError(f"{self._failed_at(name, error)}: {error}") from None

    def _failed_at(self, name: str, error: Exception) -> str:
        """FILE:LINE of the template, which stands in the traceback as if it were Python's."""
        file = self._environment.get_template(name).filename
        trace, line = error.__traceback__, 0
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == file:
                line = trace.tb_lineno
            trace = trace.tb_next
        return f"{file}:{line}"


class Scripts:
    """The script of a desktop, and the commands that run it.

    `files` does what reads templates: `await files.do(scripts.desktop, ...)`.
    """

    def __init__(self, templates: Path | None) -> None:
        self.files = Share(templates or Path(__file__).parent / "templates")
        self._templates = Templates(templates, quote)
        self._jobs = Templates(templates, quote_job)
        self._containers = Templates(templates, container.quote)

    def desktop(self, spec: Spec, folder: str, listen: Listen) -> str:
        """The script that makes the desktop; it is written to FOLDER/desktop.sh.

        Run by bash, with FOLDER/passwd for its VNC server, it writes FOLDER/report as soon as that serves, and ends
        with the session, or when it is sent SIGTERM; then nothing of it is left. Why it could not be done stands on the
        last line of what it writes to stderr. Raises LaunchError.
        """
        kind = spec.kind
        socket = f"{folder}/vnc.sock"
        if listen is Listen.SOCKET and len(socket.encode("utf-8", "surrogateescape")) > LONGEST_SOCKET:
            raise LaunchError(
                f"{socket}: longer than the {LONGEST_SOCKET} bytes that the path of a unix socket may have; "
                "choose a shorter folder"
            )
        return self._templates.render(
            "desktop.sh.j2",
            nonce=spec.nonce,
            account=spec.account,
            folder=folder,
            listen=listen.value,
            host=spec.host,
            home=spec.home,
            contained=bool(kind.image),
            geometry=kind.geometry or "1280x800",
            depth=kind.depth,
            environment=kind.environment,
            setup=kind.setup,
            window_manager=kind.window_manager,
            command=kind.command,
        )

    def job(self, spec: Spec, folder: str, place: SlurmPlace) -> str:
        """The script of the Slurm job that the desktop is, with what it asks for in #SBATCH lines."""
        kind = spec.kind
        return self._jobs.render(
            "job.sh.j2",
            nonce=spec.nonce,
            job_name=f"vncgate-{_UNFIT.sub('_', spec.account)}",
            account=spec.account,
            folder=folder,
            kind=kind,
            place=place,
            partition=kind.partition or place.partition,
            commands=self.commands(spec, folder),
        )

    def container(self, spec: Spec, folder: str, place: DockerPlace, person: Person, users: str) -> Container:
        """The container that the desktop is, with `folder` and the account's things in it. Raises LaunchError.

        `users` is the file that is /etc/passwd inside; empty: the image's own.
        """
        kind = spec.kind
        text = self._containers.render(
            "container.yml.j2",
            image=kind.image,
            # What the session writes goes where it outlives the container.
            command=["bash", "-c", 'exec bash "$0/desktop.sh" >>"$0/log" 2>&1', folder],
            folder=folder,
            users=users,
            home=spec.home,
            binds=[asdict(bind) for bind in binds(kind, spec.account)],
            user=f"{person.uid}:{person.gid}",
            groups=person.groups,
            userns=person.userns,
            network=place.network,
            cores=kind.cores,
            memory=kind.memory,
            gpus=kind.gpus,
            labels={"vncgate.account": spec.account, "vncgate.nonce": spec.nonce},
            extra=kind.extra or (),
            account=spec.account,
            environment=kind.environment,
        )
        return container.parse(text)

    def commands(self, spec: Spec, folder: str) -> list[list[str]]:
        """What is to be run in this order; the last one is the session, which lasts as long as the desktop."""
        session = ["bash", f"{folder}/desktop.sh"]
        if spec.kind.wrap is Wrap.APPTAINER:
            return apptainer.commands(session, spec.kind, folder, spec.home, spec.account)
        return [session]
