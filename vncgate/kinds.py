"""What desktops are made of: kinds (what runs), sizes (what it may use), places (where its process lives). Values only.

These are the sections `[desktops]`, `[desktops.kinds.NAME]` and `[desktops.places.NAME]` of the settings' file.
"""

from __future__ import annotations

import contextlib
import enum
import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from vncgate import hostlist
from vncgate.errors import HostListError
from vncgate.model import Account


class Section(BaseModel):
    """A section of the settings' file: frozen, and nothing in it but what is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


def _words(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _command(value: object) -> object:
    return shlex.split(value) if isinstance(value, str) else value


def _hosts(value: str) -> str:
    try:
        hostlist.expand(value)
    except HostListError as error:
        raise ValueError(str(error)) from None
    return value


def _file(value: object) -> object:
    if value == "":
        return None
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a path cannot have a NUL character")
    return value


def like(pattern: str, example: str) -> AfterValidator:
    """Accept what matches `pattern`; an example says more than a pattern to whoever wrote something else."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"write it as {example}")
        return value

    return AfterValidator(check)


def _expandable(value: str) -> str:
    rest = value.replace("{account}", "")
    if wrong := re.search(r"\{[^{}]*\}?|\}", rest):
        raise ValueError(f"{wrong[0]!r} stands for nothing: only {{account}} does, for the account's name")
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Command = Annotated[tuple[str, ...], BeforeValidator(_command)]
File = Annotated[Path | None, BeforeValidator(_file)]
Seconds = Annotated[float, Field(gt=0, le=86400, strict=True, allow_inf_nan=False)]
SecondsOrNever = Annotated[float, Field(ge=0, le=31536000, strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Geometry = Annotated[str, like(r"[1-9][0-9]{2,4}x[1-9][0-9]{2,4}", "1280x800")]
Memory = Annotated[str, like(r"[1-9][0-9]*[KMGT]", "512M or 4G")]
WallTime = Annotated[
    str,
    like(r"[0-9]+-[0-9]{1,2}(:[0-9]{2}){0,2}|[0-9]+(:[0-9]{2}){0,2}", "90 (minutes), 8:00:00 or 2-12:00:00 (days)"),
]
Count = Annotated[int, Field(ge=0, le=100000, strict=True)]
Name = Annotated[
    str,
    like(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", "xfce or gpu-large: letters, digits, '.', '_', '-', at most 64 of them"),
]
Login = Annotated[str, like(r"(([^@\s-][^@\s]*@)?[A-Za-z0-9:][A-Za-z0-9:._-]*)?", "login1 or school@login1")]
Expandable = Annotated[str, AfterValidator(_expandable)]
"""A text in which `{account}` stands for the account's name."""
BindText = Annotated[Expandable, like(r"/[^:]*(:/[^:]*)?(:(ro|rw))?", "/outside:/inside or /outside:/inside:ro")]
Variable = Annotated[str, like(r"[A-Za-z_][A-Za-z0-9_]*", "MY_VARIABLE: letters, digits, '_', and no digit first")]

PATTERN = re.compile(r"\{account\}")
"""What stands for the account's name in `user`, `home`, `overlay` and `binds`."""


class Policy(enum.StrEnum):
    """When a desktop is started without an operator's word."""

    MANUAL = "manual"
    EAGER = "eager"
    ON_DEMAND = "on_demand"
    POOL = "pool"


class Wrap(enum.StrEnum):
    """Inside what a desktop runs."""

    NONE = "none"
    APPTAINER = "apptainer"


class Resources(Section):
    """What a desktop may use. None: as its kind has it, or as the place has it by itself."""

    cores: Annotated[int, Field(ge=1, le=4096, strict=True)] | None = None
    """Processor cores (slurm, docker)."""
    memory: Memory | None = None
    """Memory, as 512M or 4G (slurm, docker)."""
    time: WallTime | None = None
    """Longest run time as Slurm writes it: minutes, HH:MM:SS or D-HH:MM:SS."""
    gpus: Annotated[int, Field(ge=1, le=64, strict=True)] | None = None
    """Graphics processors (slurm, docker)."""
    geometry: Geometry | None = None
    """Size of the screen at the start, in pixels; a viewer may change it. None: 1280x800."""
    partition: str | None = None
    """Slurm partition. None: that of the place."""
    extra: Words | None = None
    """More arguments for sbatch, or for `docker run`, as they are."""


class Kind(Resources):
    """What is run: a desktop environment, or one application in a bare window manager."""

    title: str = ""
    """What participants read. Empty: the name."""
    place: str = "local"
    """Where: the name of a place."""
    command: Annotated[Command, Field(min_length=1)]
    """Command of the session, for example "startxfce4". When it ends, the desktop ends."""
    window_manager: Command = ()
    """Window manager that is started first, where the command is an application alone, for example "openbox"."""
    setup: str = ""
    """Shell lines (bash) that are run before the command, for example "module load matlab"."""
    environment: dict[Variable, str] = {}
    """Variables of the session."""
    home: Expandable = ""
    """Home folder, for example "/scratch/school/{account}"; it is made when missing. Empty: the user's own."""
    depth: Literal[16, 24] = 24
    """Bits a pixel."""
    wrap: Wrap = Wrap.NONE
    """Inside what: "none", or "apptainer" (not in a place of type docker)."""
    image: str = ""
    """Image: a .sif file or a sandbox folder (apptainer), or the name of an image (docker)."""
    binds: Annotated[tuple[BindText, ...], BeforeValidator(_words)] = ()
    """What the inside sees of the outside, as "/data:/data:ro"."""
    overlay: Expandable = ""
    """File of a writable overlay (apptainer), for example "/scratch/{account}.img"; made when missing, sparse."""
    overlay_size: Annotated[int, Field(ge=64, le=1048576, strict=True)] = 1024
    """Size of an overlay that is made, in MiB."""
    nvidia: Flag = False
    """Whether the host's NVIDIA driver is brought in (apptainer --nv)."""
    contain: Flag = True
    """Whether the inside sees nothing of the host that is not bound (apptainer --containall)."""
    policy: Policy = Policy.ON_DEMAND
    """When it starts: "manual" (an operator's word), "eager" (with the daemon), "on_demand" (when the participant opens
    the page), "pool" (some are started beforehand and given out)."""
    pool: Count = 0
    """How many are kept ready, where the policy is "pool"."""
    idle_timeout: SecondsOrNever = 0.0
    """Seconds without a key, a pointer's move or a text for its clipboard from anybody, after which it is ended; never
    earlier, and with a warning before (desktops.warn, or half of this where that is shorter). Who only logs in, or
    watches, does not use it. 0: never."""
    sizes: dict[Name, Resources] = {}
    """Named sizes, as [desktops.kinds.NAME.sizes.small]: what they say goes before what the kind says."""
    size: str = ""
    """The size of accounts that name none. Empty: what the kind itself says."""

    @model_validator(mode="after")
    def _consistent(self) -> Kind:
        if self.size and self.size not in self.sizes:
            raise ValueError(f"size {self.size!r} is not among its sizes")
        if self.wrap is Wrap.APPTAINER and not self.image:
            raise ValueError("wrap apptainer needs an image")
        if self.image.startswith("-"):
            raise ValueError("image: its name cannot begin with -")
        if self.home and not self.home.startswith("/"):
            raise ValueError("home: write it from the root on, as /scratch/school/{account}")
        if self.policy is Policy.POOL and not self.pool:
            raise ValueError("policy pool needs to know how many to keep ready: pool = 5")
        return self

    def policy_for(self, account: Account) -> Policy:
        """When an account's desktop starts: as its line says or, where that says nothing, as the kind does."""
        return Policy(account.policy or self.policy)

    def sized(self, size: str) -> Kind:
        """The same with what `size` (empty: the default one) says. Raises KeyError for a size that it does not have."""
        chosen = size or self.size
        if not chosen:
            return self
        return self.model_copy(update=self.sizes[chosen].model_dump(exclude_none=True))


class _Place(Section):
    user: Expandable = ""
    """Unix user that desktops run as, for example "{account}". Empty: the daemon's own, or whom ssh takes by itself; a
    daemon that is root needs a name here. "root" where there is nobody else, as in a container that the gate is in."""
    starts_at_once: Annotated[int, Field(ge=1, le=1000, strict=True)] = 8
    """Desktops that are being started at the same time, at most."""
    starts_per_second: Annotated[float, Field(gt=0, le=1000, strict=True, allow_inf_nan=False)] = 5.0
    """Starts within a second, at most: one follows the other evenly, however many are asked for at once."""
    most: Count = 0
    """Desktops that may be there at the same time. 0: any number."""
    start_timeout: Seconds = 120.0
    """Seconds from the start of its process to the first full VNC login."""

    @property
    def may_be_root(self) -> bool:
        """Whether desktops may run as root: only where the settings say so in so many words, for no {account}."""
        return self.user == "root"


class LocalPlace(_Place):
    """The gate's own host."""

    type: Literal["local"] = "local"


class SshLogin(Section):
    """How the gate logs in by ssh."""

    port: Annotated[int, Field(ge=1, le=65535, strict=True)] = 22
    """Port of sshd."""
    key: File = None
    """Private key to log in with, without a passphrase. None: the daemon's agent or default keys."""
    known_hosts: File = None
    """File of the hosts' keys. None: ~/.ssh/known_hosts. An unknown key is refused."""


class SshPlace(SshLogin, _Place):
    """Hosts reached by ssh."""

    type: Literal["ssh"]
    hosts: Annotated[str, AfterValidator(_hosts)]
    """Hosts in Slurm's notation, for example "node[01-08]"; new desktops go where there are fewest."""
    folder: str = ".vncgate"
    """Folder of the desktops' files on the host; relative to the user's home."""
    reach: Literal["ssh", "direct"] = "ssh"
    """How the gate connects to the desktop: through the ssh connection, or directly over the network."""


class SlurmPlace(SshLogin, _Place):
    """A Slurm cluster."""

    type: Literal["slurm"]
    folder: Annotated[Path, Field()]
    """Folder on a file system that the gate and the nodes share: scripts, passwords and reports of the desktops."""
    transport: Literal["commands", "rest"] = "commands"
    """How the cluster is asked: by its commands, or by slurmrestd."""
    rest: str = ""
    """Address of slurmrestd, as http://host:6820 or unix:/run/slurmrestd.socket."""
    rest_token: File = None
    """File with the token (SLURM_JWT) for slurmrestd over http."""
    commands: File = None
    """Folder of sbatch, squeue and scancel. None: they are found by PATH."""
    submit_host: Login = ""
    """Host on which these commands are run by ssh, as "login1" or "school@login1". Empty: the gate's own."""
    conf: File = None
    """slurm.conf of the cluster. None: the commands find it."""
    cluster: str = ""
    """Cluster (sbatch --clusters), where slurmdbd knows several."""
    account: str = ""
    """Slurm account that is charged."""
    partition: str = ""
    """Partition, where the kind names none."""
    qos: str = ""
    """Quality of service."""
    reservation: str = ""
    """Reservation."""
    poll_interval: Seconds = 3.0
    """Seconds between two questions for the state of all jobs."""
    queue_timeout: SecondsOrNever = 0.0
    """Seconds in the queue after which a desktop is given up. 0: never."""
    reach: Literal["ssh", "direct"] = "direct"
    """How the gate connects to the desktop: directly over the network, or through an ssh connection."""
    login: Login = ""
    """Host to which that ssh connection is made, as "login1" or "school@login1". Empty: each desktop's own node."""

    @model_validator(mode="after")
    def _reachable(self) -> SlurmPlace:
        if self.transport == "rest" and not self.rest.startswith(("http://", "https://", "unix:/")):
            raise ValueError('transport "rest" needs rest, as http://host:6820 or unix:/run/slurmrestd.socket')
        if self.transport == "rest" and self.submit_host:
            raise ValueError('submit_host is where commands are run: there are none with transport "rest"')
        if self.login and self.reach != "ssh":
            raise ValueError('login is for reach = "ssh"')
        return self


class DockerPlace(_Place):
    """Docker or Podman on this host."""

    type: Literal["docker"]
    command: Annotated[Command, Field(min_length=1)] = ("podman",)
    """The command, for example "docker" or "podman --url unix:///run/podman.sock"."""
    network: str = "none"
    """Network of the containers; desktops themselves need none: RFB goes over a socket in a folder."""
    starts_at_once: Annotated[int, Field(ge=1, le=1000, strict=True)] = 4
    """Desktops that are being started at the same time, at most."""


RESERVED = frozenset({"handles", "lock"})
"""Names that no place may have: they are files of ours where the places have their folders."""
PLACES: dict[str, type[Section]] = {"local": LocalPlace, "ssh": SshPlace, "slurm": SlurmPlace, "docker": DockerPlace}
"""The types of places."""
AnyPlace = Annotated[LocalPlace | SshPlace | SlurmPlace | DockerPlace, Field(discriminator="type")]


class DesktopsSettings(Section):
    """Desktops that the gate starts itself: of accounts whose vnchost is `-`."""

    folder: File = None
    """Folder for what must outlive the daemon: which desktops run, their passwords and logs. None: `desktops`
    in $STATE_DIRECTORY, or in /var/lib/vncgate for root, else in $XDG_STATE_HOME/vncgate."""
    kind: str = ""
    """Kind of accounts that name none. Empty: the only kind there is."""
    templates: File = None
    """Folder whose desktop.sh.j2, job.sh.j2 and container.yml.j2 take precedence over ours."""
    end: datetime | None = None
    """When the workshop is over, as 2026-03-06T18:00:00+01:00: all desktops end, and none is started any more."""
    warn: Seconds = 300.0
    """Seconds before a desktop's end (idle, time limit, end of the workshop) at which its participant is warned."""
    kinds: dict[Name, Kind] = {}
    """What can be run: a section each, [desktops.kinds.NAME]."""
    places: dict[Name, AnyPlace] = {}
    """Where it can be run, beside "local", which is there by itself: a section each, [desktops.places.NAME]."""

    @field_validator("end", mode="wrap")
    @classmethod
    def _with_zone(cls, value: object, read: ValidatorFunctionWrapHandler) -> datetime | None:
        with contextlib.suppress(ValidationError):
            end: datetime | None = read(value)
            if end is None or end.tzinfo is not None:
                return end
        raise ValueError("write it with its zone, as 2026-03-06T18:00:00+01:00")

    @model_validator(mode="after")
    def _consistent(self) -> DesktopsSettings:
        if taken := RESERVED & self.places.keys():
            raise ValueError(f"places.{min(taken)}: a place cannot have this name")
        for name, kind in self.kinds.items():
            place = self.place(kind.place)
            if place is None:
                known = ", ".join(dict.fromkeys(("local", *self.places)))
                raise ValueError(f"kinds.{name}.place: there is no place {kind.place!r}; known are {known}")
            if kind.image and kind.wrap is Wrap.NONE and not isinstance(place, DockerPlace):
                raise ValueError(f"kinds.{name}: its image is for wrap apptainer, or for a place of type docker")
            if isinstance(place, DockerPlace) and (kind.wrap is not Wrap.NONE or not kind.image):
                raise ValueError(f"kinds.{name}: in a place of type docker it needs an image, and no wrap")
        if self.kind and self.kinds and self.kind not in self.kinds:
            raise ValueError(f"kind: there is no kind {self.kind!r}; known are {', '.join(self.kinds)}")
        return self

    @property
    def default_kind(self) -> str:
        """The kind of accounts that name none; empty where there is no such kind."""
        return self.kind or (next(iter(self.kinds)) if len(self.kinds) == 1 else "")

    def place(self, name: str) -> LocalPlace | SshPlace | SlurmPlace | DockerPlace | None:
        """A place by its name; "local" is there even where no section describes it."""
        return self.places.get(name) or (LocalPlace() if name == "local" else None)

    def personal(self, kind: Kind) -> list[str]:
        """The settings by which a desktop of `kind` is somebody's from its start: those with `{account}` in them."""
        place = self.place(kind.place)
        texts = {"home": (kind.home,), "overlay": (kind.overlay,), "binds": kind.binds}
        texts[f"places.{kind.place}.user"] = (place.user if place else "",)
        return [name for name, said in texts.items() if any(map(PATTERN.search, said))]
