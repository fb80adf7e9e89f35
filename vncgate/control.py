"""The socket that an operator's command talks to: HTTP with JSON over a unix socket that only its owner can open.

`serve()` is the daemon's end, `call()` the command's. A refused command is answered with status 409, one that cannot
be understood with 400, both with `{"error": ...}`, which `call()` raises as ControlError.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import http.client
import json
import os
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vncgate.desktop_words import lines_asked
from vncgate.errors import ControlError, TokensError, VncgateError
from vncgate.render.status import launched
from vncgate.text import printable
from vncgate.workshop import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from vncgate.launchers.base import DesktopCommands
    from vncgate.organizing import Organizing
    from vncgate.scrape import Handler
    from vncgate.takeaway.archives import Archives
    from vncgate.workshop_life import Life

REPLY_TIMEOUT = 60.0
"""Seconds that a command waits for its answer; a restart of a whole class takes a few."""
STATUS_TIMEOUT = 5.0
"""Seconds that a gate on this host has to tell what it serves."""
ANSWERS = {
    "/status": "accounts",
    "/start": "accounts",
    "/stop": "accounts",
    "/restart": "accounts",
    "/reload": "changes",
    "/upgrade": "since",
    "/desktops": "desktops",
    "/desktops/start": "accounts",
    "/desktops/stop": "accounts",
    "/desktops/restart": "accounts",
    "/desktops/logs": "log",
    "/workshop": "phase",
    "/workshop/open": "phase",
    "/workshop/freeze": "phase",
    "/workshop/end": "phase",
    "/workshop/purge": "phase",
    "/workshop/plan": "plan",
    "/workshop/report": "figures",
    "/organize": "answer",
    "/archives": "archives",
    "/archives/build": "accounts",
    "/archives/remove": "accounts",
}
"""The commands, and what each answer has in any case."""
LONGEST_BY = 64
"""Characters of who gave a command, as it stands in the audit log."""
MAX_BODY = 32 * 1024 * 1024
"""Bytes of a command; the largest hands a token file over."""

Understood = TypeVar("Understood")


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A token file that a command read for a daemon that cannot: its name, content and mode (stat(2)) there.

    `content` is None where the command could not read it either; `trouble` says why.
    """

    name: str
    content: bytes | None
    mode: int = 0o100600
    trouble: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it travels; the content as base64, because it need not be UTF-8."""
        content = None if self.content is None else base64.b64encode(self.content).decode()
        return {"name": self.name, "content": content, "mode": self.mode, "trouble": self.trouble}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> HandedOver:
        """The reverse of `to_json()`. Raises LookupError, TypeError or ValueError where it did not make `body`."""
        content = None if body["content"] is None else base64.b64decode(body["content"], validate=True)
        return cls(str(body["name"]), content, int(body["mode"]), str(body["trouble"]))


class Operator(Protocol):
    """What the daemon lets an operator do. Errors are VncgateErrors in plain words."""

    @property
    def desktops(self) -> DesktopCommands:
        """The desktops that the gate starts itself."""

    @property
    def workshop(self) -> Life:
        """The workshop's life. Raises ControlError where nobody sits on seats, so that it has none."""

    @property
    def organizing(self) -> Organizing:
        """Seats and people. Raises ControlError where nobody sits on seats."""

    @property
    def archives(self) -> Archives:
        """What is built beforehand of accounts' files. Raises ControlError where no files go in or out."""

    def status(self) -> dict[str, Any]:
        """Everything, as JSON values."""

    async def start(self, names: Sequence[str]) -> list[str]:
        """Start accounts; names may be patterns (`ws0*`). Returns the names that were meant."""

    async def stop(self, names: Sequence[str]) -> list[str]:
        """Stop accounts; names may be patterns (`ws0*`). Returns the names that were meant."""

    async def restart(self, names: Sequence[str]) -> list[str]:
        """Restart accounts; names may be patterns (`ws0*`). Returns the names that were meant."""

    async def reload(self, handed: HandedOver | None = None, config: HandedOver | None = None) -> dict[str, Any]:
        """Read the token file again, or take what a command read in its place.

        Where `config`, or the code on disk, is not what runs, this is an upgrade: the answer has its `since` too.
        """

    async def upgrade(self, tokens: HandedOver | None, config: HandedOver | None) -> dict[str, Any]:
        """Start anew from the code on disk, without a drop, if that code can start with these files.

        The answer comes before it is done: `since` is when the daemon that was asked began.
        """


def default_path(environ: Mapping[str, str], uid: int) -> Path:
    """Where the socket is when no setting says so: the same for the daemon and its commands.

    `/run/vncgate/control` for root (and for a service with RuntimeDirectory=vncgate), else below
    $XDG_RUNTIME_DIR, else in a folder of the user's own in /tmp.
    """
    if runtime := environ.get("RUNTIME_DIRECTORY"):
        return Path(runtime.partition(":")[0]) / "control"
    if uid == 0:
        return Path("/run/vncgate/control")
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "vncgate" / "control"
    return Path(f"/tmp/vncgate-{uid}/control")  # noqa: S108  (the folder is made 0700 and its owner checked)


def bind(path: Path) -> socket.socket:
    """A listening unix socket of mode 0600. Raises ControlError when another daemon holds it or it cannot be made."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_uid not in (os.getuid(), 0):
            raise ControlError(f"{path.parent} belongs to another user; choose another path with --control")
        if _answers(path):
            raise ControlError(f"another vncgate runs already, its control socket is {path}; see `vncgate status`")
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            sock.bind(str(path))
            sock.listen()
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(old)
    except OSError as error:
        raise ControlError(f"the control socket {path} cannot be made: {error.strerror or error}") from None
    return sock


@dataclass(slots=True)
class Served:
    """A control socket that is served. Its path `stays` when that is set: a duplicate of the socket lives on."""

    stays: bool = False


def remove(sock: socket.socket) -> None:
    """Close a control socket that nobody serves, and remove its path."""
    Path(sock.getsockname()).unlink(missing_ok=True)
    sock.close()


@contextlib.asynccontextmanager
async def serve(sock: socket.socket, operator: Operator, metrics: Handler) -> AsyncIterator[Served]:
    """Answer commands, and GET /metrics, on `sock` while the context lasts; it and its path are removed at the end.

    A path that somebody removed, and another daemon bound anew, is that one's and stays.
    """
    from vncgate.serving import serving  # commands import this module too, and need not wait for aiohttp

    path = sock.getsockname()
    made = os.stat(path)  # noqa: PTH116
    served = Served()
    try:
        async with serving(_application(operator, metrics), sock, shutdown_timeout=0.5):
            yield served
    finally:
        with contextlib.suppress(FileNotFoundError):
            if not served.stays and os.path.samestat(os.stat(path), made):  # noqa: PTH116
                os.unlink(path)  # noqa: PTH108


def _application(operator: Operator, metrics: Handler) -> web.Application:
    from aiohttp import web

    async def status(request: web.Request) -> web.Response:  # noqa: ARG001
        return web.json_response(operator.status())

    async def act(request: web.Request) -> web.Response:
        deed = {"start": operator.start, "stop": operator.stop, "restart": operator.restart}[request.match_info["deed"]]
        return web.json_response({"accounts": await deed(await _understood(request, _names))})

    async def reload(request: web.Request) -> web.Response:
        tokens, config = await _understood(request, _files)
        return web.json_response(await operator.reload(tokens, config))

    async def upgrade(request: web.Request) -> web.Response:
        tokens, config = await _understood(request, _files)
        return web.json_response(await operator.upgrade(tokens, config))

    async def desktops(request: web.Request) -> web.Response:  # noqa: ARG001
        every = operator.desktops.statuses(), operator.desktops.spares()
        accounts, spares = ([launched(status) for status in statuses] for statuses in every)
        return web.json_response({"desktops": accounts, "spares": spares})

    async def act_on_desktops(request: web.Request) -> web.Response:
        all_of_them = operator.desktops
        deed = {
            "start": all_of_them.start_desktops,
            "stop": all_of_them.stop_desktops,
            "restart": all_of_them.restart_desktops,
        }[request.match_info["deed"]]
        return web.json_response({"accounts": await deed(await _understood(request, _names))})

    async def logs(request: web.Request) -> web.Response:
        name, lines = await _understood(request, lambda body: (str(body["account"]), lines_asked(str(body["lines"]))))
        return web.json_response({"log": await operator.desktops.logs(name, lines)})

    async def organize(request: web.Request) -> web.Response:
        what, names, given = await _understood(request, _asked)
        return web.json_response({"answer": await operator.organizing.answer(what, names, given, "operator")})

    @web.middleware
    async def in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except VncgateError as error:
            return web.json_response({"error": str(error)}, status=409)
        except web.HTTPException as error:
            return web.json_response({"error": error.text}, status=error.status)

    app = web.Application(middlewares=[in_json], client_max_size=MAX_BODY)
    app.router.add_get("/status", status)
    app.router.add_get("/metrics", metrics)
    app.router.add_post("/reload", reload)
    app.router.add_post("/upgrade", upgrade)
    app.router.add_post("/{deed:start|stop|restart}", act)
    app.router.add_post("/organize", organize)
    app.router.add_get("/desktops", desktops)
    app.router.add_post("/desktops/logs", logs)
    app.router.add_post("/desktops/{deed:start|stop|restart}", act_on_desktops)
    _add_workshop(app, operator)
    _add_archives(app, operator)
    return app


def _add_workshop(app: web.Application, operator: Operator) -> None:
    from aiohttp import web

    async def workshop(request: web.Request) -> web.Response:  # noqa: ARG001
        return web.json_response(operator.workshop.status())

    async def order(request: web.Request) -> web.Response:
        command = Command(request.match_info["command"])
        by = await _understood(request, lambda body: printable(str(body["by"]))[:LONGEST_BY])
        return web.json_response(await operator.workshop.order(command, by))

    async def plan(request: web.Request) -> web.Response:
        command = await _understood(request, lambda body: Command(body["command"]))
        return web.json_response({"plan": await operator.workshop.plan(command)})

    async def report(request: web.Request) -> web.Response:
        with_names = await _understood(request, lambda body: body["names"] is True)
        return web.json_response(await operator.workshop.report(names=with_names))

    app.router.add_get("/workshop", workshop)
    app.router.add_post(f"/workshop/{{command:{'|'.join(Command)}}}", order)
    app.router.add_post("/workshop/plan", plan)
    app.router.add_post("/workshop/report", report)


def _add_archives(app: web.Application, operator: Operator) -> None:
    from aiohttp import web

    async def status(request: web.Request) -> web.Response:  # noqa: ARG001
        return web.json_response({"archives": [asdict(built) for built in operator.archives.statuses()]})

    async def act(request: web.Request) -> web.Response:
        archives = operator.archives
        deed = archives.build if request.match_info["deed"] == "build" else archives.remove
        return web.json_response({"accounts": await deed(await _understood(request, _names))})

    app.router.add_get("/archives", status)
    app.router.add_post("/archives/{deed:build|remove}", act)


async def _understood(request: web.Request, read: Callable[[Any], Understood]) -> Understood:
    """What `read` makes of the JSON of a request. Raises HTTPBadRequest where that is malformed."""
    from aiohttp import web

    try:
        return read(await request.json())
    except (LookupError, TypeError, ValueError) as error:
        text = f"the command cannot be understood ({type(error).__name__}: {error})"
        raise web.HTTPBadRequest(text=text) from None


def _files(body: Mapping[str, Any]) -> list[HandedOver | None]:
    return [HandedOver.from_json(body[name]) if body.get(name) else None for name in ("tokens", "config")]


def _asked(body: Mapping[str, Any]) -> tuple[str, list[str], dict[str, str]]:
    given = body["given"]
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise TypeError("`given` must be an object of texts")
    return str(body["what"]), _names(body), given


def _names(body: Mapping[str, Any]) -> list[str]:
    names = body["accounts"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("`accounts` must be a list of names")
    return names


def call(path: Path, route: str, body: object | None = None, timeout: float | None = None) -> dict[str, Any]:
    """Send one command and return its answer; a GET when there is nothing to send.

    The answer may take `timeout` seconds (None: REPLY_TIMEOUT).

    Raises ControlError when no daemon is at `path`, or it does not answer in time, fails, or refuses.
    """
    timeout = timeout or REPLY_TIMEOUT
    connection = _UnixConnection(path, timeout)
    try:
        connection.connect()
    except OSError as error:
        connection.close()
        raise ControlError(f"no vncgate answers at {path} ({_why(error)}); is it running?") from None
    try:
        if body is not None:
            connection.request("POST", route, json.dumps(body), {"Content-Type": "application/json"})
        else:
            connection.request("GET", route)
        response = connection.getresponse()
        said = response.read()
    except TimeoutError:
        raise ControlError(f"vncgate at {path} did not answer within {timeout:g} s; its log may say why") from None
    except (OSError, http.client.HTTPException) as error:
        raise ControlError(f"vncgate at {path} went away before it answered ({_why(error)})") from None
    finally:
        connection.close()
    return _answer(path, response.status, said, ANSWERS.get(route, ""))


def _answer(path: Path, status: int, said: bytes, key: str) -> dict[str, Any]:
    """What was said, if it is what a vncgate says: an object with `key`, or with `error`."""
    try:
        answer = json.loads(said)
    except ValueError:
        raise ControlError(f"the daemon failed: status {status}; its log says why") from None
    wanted = key if status == http.client.OK else "error"
    if not isinstance(answer, dict) or wanted not in answer:
        raise ControlError(f"what answers at {path} is no vncgate")
    if wanted == "error":
        raise ControlError(str(answer["error"]))
    return answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("vncgate", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _answers(path: Path) -> bool:
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise ControlError(f"{path} is in the way of the control socket and is no socket")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def _why(error: Exception) -> str:
    match getattr(error, "errno", None):
        case errno.ENOENT:
            return "there is no such socket"
        case errno.ECONNREFUSED:
            return "nobody listens"
        case errno.EACCES:
            return "you may not open it; use the daemon's user, or root"
        case _:
            return " ".join(str(error).split()) or type(error).__name__


def served(path: Path) -> dict[str, Any]:
    """What the gate at `path` says of itself (/status); empty where there is none that we may ask."""
    try:
        return call(path, "/status", timeout=STATUS_TIMEOUT)
    except ControlError:
        return {}


def token_file(status: Mapping[str, Any]) -> Path:
    """The file that a gate said it serves, for commands that were not given one. Raises TokensError."""
    if not status:
        raise TokensError("no gate on this host tells where its token file is: name it")
    return Path(status["tokens"])
