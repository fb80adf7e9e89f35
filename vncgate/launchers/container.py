"""What a container is made of, as the template container.yml.j2 says it, and the arguments that make it so. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from vncgate.errors import LaunchError
from vncgate.kinds import Section
from vncgate.launchers.base import Bind

_NOT_PLAIN = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a container runs as, in the engine's numbers; `userns` is how these become the host's, if they are not."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    userns: str | None = None


class Mount(Section):
    """A folder or file of the host that is seen inside; `readonly`: only to be read."""

    source: str
    target: str
    readonly: bool = False

    @property
    def argument(self) -> str:
        """As --mount takes it."""
        return Bind(self.source, self.target, self.readonly).as_mount("source", "target", "readonly")


class Limits(Section):
    """What it may use; null: as the engine has it by itself. Memory as engines write it: 512m, 4g."""

    cores: float | None = None
    memory: str | None = None
    gpus: int | str | None = None
    shm: str | None = None
    processes: int | None = None


class Container(Section):
    """A container, as `docker run` and `podman run` make it of the same arguments.

    `extra` stands before the image, as it is. Groups may be numbers or names.
    """

    image: Annotated[str, Field(pattern=r"^[^-\s]\S*$")]
    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    user: str | None = None
    groups: tuple[int | str, ...] | None = None
    userns: str | None = None
    workdir: str | None = None
    mounts: tuple[Mount, ...] | None = None
    network: str | None = None
    devices: tuple[str, ...] | None = None
    limits: Limits = Limits()
    security: tuple[str, ...] | None = None
    environment: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    extra: tuple[str, ...] | None = None

    def argv(self, name: str) -> list[str]:
        """What the engine is told to start it detached, by `name`, from an image that is there: none is fetched."""
        limits = self.limits
        words = ["--detach", "--pull=never", f"--name={name}"]
        for flag, value in (
            ("entrypoint", self.entrypoint),
            ("user", self.user),
            ("userns", self.userns),
            ("workdir", self.workdir),
            ("network", self.network),
            ("cpus", limits.cores),
            ("memory", limits.memory),
            ("gpus", limits.gpus),
            ("shm-size", limits.shm),
            ("pids-limit", limits.processes),
        ):
            if value is not None and value != "":
                words.append(f"--{flag}={value}")
        for flag, values in (
            ("group-add", self.groups),
            ("mount", [mount.argument for mount in self.mounts or ()]),
            ("device", self.devices),
            ("security-opt", self.security),
            ("env", _pairs(self.environment)),
            ("label", _pairs(self.labels)),
        ):
            words += [f"--{flag}={value}" for value in values or ()]
        return ["run", *words, *(self.extra or ()), self.image, *self.command]


def parse(text: str) -> Container:
    """The container that a rendered template describes.

    Raises LaunchError that names the line of what is no YAML, and every key that is unknown or has a wrong value.
    """
    try:
        return Container.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1} of what it gave" if mark else ""
        raise LaunchError(f"container.yml.j2{line}: {getattr(error, 'problem', None) or 'no YAML'}") from None
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, each['loc'])) or 'the whole'}: "
            + ("there is no such key" if each["type"] == "extra_forbidden" else each["msg"])
            for each in error.errors(include_url=False, include_input=False)
        )
        raise LaunchError(f"container.yml.j2: {'; '.join(problems)}") from None


def quote(value: Any) -> str:
    """A value as YAML, on one line. Raises LaunchError for a NUL: no command can be given one."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if "\\u0000" in text:
        raise LaunchError(f"{value!r} has a NUL character, which no command can be given")
    # YAML takes no control characters as they are, and its \u takes no pairs as JSON's does.
    return _NOT_PLAIN.sub(lambda found: f"\\U{ord(found[0]):08x}", text)


def _pairs(values: dict[str, str] | None) -> list[str]:
    return [f"{name}={value}" for name, value in (values or {}).items()]
