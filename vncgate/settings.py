"""Every setting, its default, its meaning and its bounds; TOML, environment and flags merged into one value.

Order: a flag beats a `VNCGATE_...` variable, which beats the file, which beats the default. An unknown or
ill-typed setting is an error that names it, where it came from, and what would be right.
"""

from __future__ import annotations

import enum
import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo

from vncgate.errors import SettingsError
from vncgate.files_settings import FilesSettings
from vncgate.kinds import (
    Command,
    DesktopsSettings,
    File,
    Flag,
    Seconds,
    SecondsOrNever,
    Section,
    Words,
    like,
)
from vncgate.language_settings import LanguagesSettings
from vncgate.model import bracketed
from vncgate.seat_settings import SeatSettings
from vncgate.setting_faults import closest, explain
from vncgate.signup_settings import MailSettings, SignupSettings
from vncgate.workshop import WorkshopSettings

ENV_PREFIX = "VNCGATE_"


class EngineName(enum.StrEnum):
    """How a proxy runs."""

    RELAY = "relay"
    WEBSOCKIFY = "websockify"


class Access(enum.StrEnum):
    """Who lets somebody in to a desktop."""

    VNC = "vnc"
    SEAT = "seat"


class WatchMode(enum.StrEnum):
    """How changes of the token file are noticed."""

    AUTO = "auto"
    INOTIFY = "inotify"
    POLL = "poll"


class Form(enum.StrEnum):
    """The two forms of the Apache snippet."""

    GUIDE = "guide"
    SINGLE = "single"


Port = Annotated[int, Field(ge=0, le=65535, strict=True)]


class HostPort(BaseModel):
    """`HOST:PORT`, `[IPv6]:PORT`; a bare `:PORT` means loopback."""

    model_config = ConfigDict(frozen=True)
    host: str
    port: Port

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


_HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})")
_SITE = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_ORIGIN = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


def _host_port(value: object) -> object:
    if isinstance(value, HostPort):
        return value
    match = _HOST_PORT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write it as "HOST:PORT", for example "127.0.0.1:8080" or "[::1]:8080"')
    if match["ipv6"]:
        ipaddress.IPv6Address(match["ipv6"])
    return {"host": match["ipv6"] or match["name"] or "127.0.0.1", "port": int(match["port"])}


def _host_port_or_off(value: object) -> object:
    return None if value in ("off", "", None) else _host_port(value)


def _workers(value: object) -> object:
    if isinstance(value, str):
        return None if value == "auto" else int(value) if value.isdecimal() else value
    return value


def _site(value: str) -> str:
    if value and not _SITE.fullmatch(value):
        raise ValueError("write the landing page's address, as https://workshop.example.org/")
    return f"{value.rstrip('/')}/" if value else ""


Address = Annotated[HostPort | None, BeforeValidator(_host_port_or_off)]
Workers = Annotated[Annotated[int, Field(ge=0, le=256, strict=True)] | None, BeforeValidator(_workers)]
LOGO_SUFFIXES = frozenset({".svg", ".png", ".jpg", ".jpeg", ".webp", ".gif"})
"""Names that a logo's file may end in."""


def _logo(path: Path | None) -> Path | None:
    if path and path.suffix.lower() not in LOGO_SUFFIXES:
        raise ValueError(f"should end in {', '.join(sorted(LOGO_SUFFIXES))}")
    return path


PerSecond = Annotated[int, Field(ge=1, le=100000, strict=True)]


class ApacheSettings(Section):
    """What the daemon does for Apache. Without `snippet` it does nothing."""

    snippet: File = None
    """File that the ProxyPass lines are written to; the vhost includes it. None: no file is written."""
    form: Form | None = None
    """`single`: one rule to the shared port, Apache never needs a reload. `guide`: the HPC wiki's two lines an
    account. None: `single` where there is a shared port, else `guide`."""
    configtest: Command = ("apachectl", "configtest")
    """Command that tests Apache's whole configuration before a reload; when it fails the old snippet is put back."""
    reload: Command = ("apachectl", "graceful")
    """Command that reloads Apache after a change (form `guide` only). Empty: Apache is never reloaded."""


class LandingSettings(Section):
    """The landing page and the viewer."""

    title: str = "Workshop desktops"
    """Heading of the landing page and title of the browser's tab."""
    welcome: str = ""
    """Text below the heading, in Markdown (raw HTML in it is shown as text)."""
    logo: Annotated[File, AfterValidator(_logo)] = None
    """Image file shown beside the heading (SVG, PNG, JPEG, WebP or GIF)."""
    accent: Annotated[str, like(r"#[0-9a-fA-F]{6}", "#2563eb")] = "#2563eb"
    """Colour of buttons and links, as #rrggbb."""
    templates: File = None
    """Folder whose Jinja2 templates take precedence over ours of the same name."""
    stylesheet: File = None
    """Style sheet of the site's own, loaded after ours."""
    novnc_dir: File = None
    """A site's own noVNC folder (it has vnc.html): links then lead to that instead of our viewer."""
    export: File = None
    """Folder that the daemon keeps a static copy of the pages in. None: no copy is kept."""


class MetricsSettings(Section):
    """What Prometheus reads. The control socket answers GET /metrics in any case."""

    address: Address = None
    """Address where /metrics is answered for Prometheus. The same as `web`: on the web port, but not to what comes
    through a proxy. None: on the control socket alone."""
    accounts: Flag = True
    """Whether each account has figures of its own, labelled with its name; without them there are the totals."""


class ApiSettings(Section):
    """The REST API on the web port, for portals and scripts. Without `tokens` there is none."""

    tokens: File = None
    """File of the bearer tokens (hashed), kept by `vncgate token`. None: there is no API, nor an organizer's page."""
    kinds: Words = ()
    """Kinds of desktops that a portal may choose among, for every account and in all their sizes. Empty: the token file
    alone says what an account gets."""


class Settings(Section):
    """All settings of the daemon."""

    web: Address = HostPort(host="127.0.0.1", port=8080)
    """Address of the landing page and the viewer. "off": no pages are served."""
    listen: str = "127.0.0.1"
    """Address that the websocket ports are bound to. Beyond loopback only where no Apache stands before them."""
    public_url: Annotated[str, AfterValidator(_site)] = ""
    """Address of the landing page as participants type it, for example https://workshop.example.org/. Links, cards and
    mails have it. With https, who signs in must come over https: Apache says so in X-Forwarded-Proto."""
    access: Access = Access.VNC
    """Who lets people in. `vnc`: the desktop, with its VNC password, which participants type. `seat`: the gate, with a
    PIN or a link; it knows who sits where, and logs in to the desktop itself (engine `relay`)."""
    shared_port: Port = 8081
    """Port on which every account is reached as /ws/PATH (engine `relay`). 0: none."""
    engine: EngineName = EngineName.RELAY
    """`relay`: all accounts in the workers. `websockify`: one websockify process an account."""
    workers: Workers = None
    """Processes that run the relay; 0: the daemon does it itself, and an upgrade ends connections. None ("auto"): one a
    core."""
    drain_timeout: SecondsOrNever = 0.0
    """Seconds that workers keep their desktops after an upgrade, or when the daemon was killed. 0: until these end."""
    control: File = None
    """Unix socket of the operator's commands. None: /run/vncgate/control for root, else
    $XDG_RUNTIME_DIR/vncgate/control, and where there is no such variable /tmp/vncgate-UID/control."""
    watch: WatchMode = WatchMode.AUTO
    """How changes of the token file are noticed; `auto` polls where it lies on a network share."""
    poll_interval: Seconds = 2.0
    """Seconds between two looks at the token file, where it is polled."""
    trusted_proxies: Words = ("127.0.0.0/8", "::1/128")
    """Addresses and networks whose X-Forwarded-... headers are believed."""
    origins: Words = ()
    """Origins (https://host[:port]) beside the gate's own from which browsers may open desktops."""
    ping_interval: Seconds = 30.0
    """Seconds without a byte from the browser after which it is pinged; keep it below every proxy's time-out (60)."""
    connect_timeout: Seconds = 5.0
    """Seconds that connecting to a desktop may take."""
    handshake_timeout: Seconds = 10.0
    """Seconds that a browser may take for the websocket handshake, and a desktop for its greeting, and for the login of
    a probe."""
    handshakes: PerSecond = 500
    """Websocket handshakes a second, on average over ten seconds; ten times as many may come at once. The workers have
    equal shares of it."""
    client_handshakes: PerSecond = 50
    """The same for each client address (IPv6: each /64), in each worker: a whole class may be behind one."""
    max_connections: Annotated[int, Field(ge=1, le=10000, strict=True)] = 16
    """Browsers that may be connected to one account at once: its owner's tabs, and all who watch. Who only watches
    (access `seat`) leaves the last two to others."""
    max_headers: Annotated[int, Field(ge=1024, le=16384, strict=True)] = 16384
    """Bytes that the headers of a websocket handshake may have."""
    max_frame: Annotated[int, Field(ge=65536, le=67108864, strict=True)] = 1048576
    """Bytes that one websocket frame of a browser may have. noVNC's have 10 KiB at most."""
    max_buffer: Annotated[int, Field(ge=65536, le=67108864, strict=True)] = 262144
    """Bytes that may wait for a browser, or a desktop, that reads slowly; then the other side is no longer read."""
    probe_interval: Seconds = 30.0
    """Seconds between two full VNC logins that tell whether a desktop nobody uses is there."""
    probe: Flag = True
    """Whether desktops are probed at all; without it their state stays unknown."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    apache: ApacheSettings = ApacheSettings()
    landing: LandingSettings = LandingSettings()
    metrics: MetricsSettings = MetricsSettings()
    api: ApiSettings = ApiSettings()
    desktops: DesktopsSettings = DesktopsSettings()
    languages: LanguagesSettings = LanguagesSettings()
    seats: SeatSettings = SeatSettings()
    workshop: WorkshopSettings = WorkshopSettings()
    signup: SignupSettings = SignupSettings()
    mail: MailSettings = MailSettings()
    files: FilesSettings = FilesSettings()

    @property
    def accounts_port(self) -> int:
        """The shared port that is really served: 0 where there is none, or the engine has no use for it."""
        return self.shared_port if self.engine is EngineName.RELAY else 0

    @property
    def snippet_form(self) -> Form:
        """The form of the Apache snippet, which is also the way that the pages of a fronted site name."""
        if self.apache.form is not None:
            return self.apache.form
        return Form.SINGLE if self.accounts_port else Form.GUIDE

    @field_validator("listen")
    @classmethod
    def _an_address(cls, value: str) -> str:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            if value != "localhost":
                raise ValueError("write an IP address, for example 127.0.0.1 or ::1") from None
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            try:
                ipaddress.ip_network(word, strict=False)
            except ValueError:
                raise ValueError(f"{word!r} is no address or network such as 10.0.0.0/8") from None
        return value

    @field_validator("origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if not _ORIGIN.fullmatch(word):
                raise ValueError(f"{word!r} is no origin such as https://workshop.example.org")
        return tuple(word.lower() for word in value)


def is_loopback(address: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    content: bytes | None = None,
) -> Settings:
    """The settings from a TOML file, the environment and the flags, the later beating the earlier.

    `content` is the file's where it was read already. `flags` has dotted names (`apache.form`); a value of None means
    that the flag was not given. Raises SettingsError with a line for each problem.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if file is not None:
        _merge(values, sources, _parse_toml(file, read(file) if content is None else content), str(file))
    names = {ENV_PREFIX + name.upper().replace(".", "_"): name for name in setting_names()}
    problems: list[str] = []
    for variable, text in sorted((environ or {}).items()):
        if variable in names:
            _put(values, sources, names[variable], text, variable)
        elif variable.startswith(ENV_PREFIX) and variable not in RESERVED_VARIABLES:
            problems.append(f"{variable}: no such setting{closest(variable, names)}")
    for name, value in (flags or {}).items():
        if value is not None:
            _put(values, sources, name, value, "--" + name.replace("_", "-").replace(".", "-"))
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        known = [*_fields(), *Settings.model_fields]
        problems += [explain(detail, sources, known) for detail in error.errors()]
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


RESERVED_VARIABLES = frozenset({"VNCGATE_REQUIRE_ALL", "VNCGATE_CONFIG", "VNCGATE_STATE", "VNCGATE_TRIAL"})
"""Variables with our prefix that are no settings: the test suite's, the file's own name, and those that a gate
leaves to the next one."""


def setting_names() -> Iterator[str]:
    """The dotted names of all settings, in the order of their definition."""
    return iter(_fields())


def _fields() -> dict[str, FieldInfo]:
    """All settings by their dotted names; not those of sections of which the file has as many as it likes
    (desktops.kinds.NAME, signup.fields).
    """
    found = {}
    for name, info in Settings.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            inner = section.model_fields.items()
            found.update({f"{name}.{key}": info for key, info in inner if not _has_sections(info)})
        else:
            found[name] = info
    return found


def _has_sections(info: FieldInfo) -> bool:
    kind, first = get_origin(info.annotation), next(iter(get_args(info.annotation)), None)
    return kind is dict or (kind is tuple and isinstance(first, type) and issubclass(first, Section))


def read(file: Path) -> bytes:
    """The content of a settings' file. Raises SettingsError when it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from None


def _parse_toml(file: Path, content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: is not UTF-8") from None
    except (ValueError, RecursionError) as error:  # a number too long, brackets too deep
        raise SettingsError(f"{file}: is not TOML: {error}") from None


def _merge(values: dict[str, Any], sources: dict[str, str], table: Mapping[str, Any], source: str) -> None:
    for name, value in table.items():
        values[name], sources[name] = value, source
        if isinstance(value, dict):
            sources.update((f"{name}.{key}", source) for key in value)


def _put(values: dict[str, Any], sources: dict[str, str], name: str, value: Any, source: str) -> None:
    section, dot, key = name.rpartition(".")
    inner = values.setdefault(section, {}) if dot else values
    if not isinstance(inner, dict):
        return  # the file has a plain value where a section belongs, and is told so by validation
    inner[key] = _typed(name, value) if isinstance(value, str) else value
    sources[name] = source


def _typed(name: str, text: str) -> Any:
    """A text of the environment or a flag as the number or boolean that it spells, where the setting is one."""
    info = _fields().get(name)
    kind = info.annotation if info else None
    if kind not in (bool, int, float):
        return text
    try:
        return TypeAdapter[object](kind).validate_python(text)
    except ValidationError:
        return text  # and validation says what is expected
