"""Files in and out: the section `[files]` of the settings' file. Values only."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vncgate.kinds import Count, Expandable, File, Section


def _root(value: str) -> str:
    rest = value.replace("{account}", "x")
    if value and not rest.removeprefix("{home}").startswith("/") and rest != "{home}":
        raise ValueError('write an absolute path, or one below {home}, for example "/scratch/school/{account}"')
    if wrong := re.search(r"\{[^{}]*\}?|\}|\0", rest.removeprefix("{home}")):
        raise ValueError(f"{wrong[0]!r} stands for nothing: only {{account}} does, and {{home}} where it comes first")
    return value


class FilesSettings(Section):
    """The folder of each account that participants take home, and copy files to (access `seat`)."""

    root: Annotated[str, AfterValidator(_root)] = ""
    """Folder of an account, for example "/scratch/school/{account}"; a leading {home} is the home folder of whoever
    reads it. Empty: no files go in or out."""
    through: Literal["host", "place"] = "host"
    """Where that folder is reached: on the gate's own `host`, or through the `place` of the account's desktop, by ssh
    to its host or to the cluster's `login` or `submit_host`."""
    user: Expandable = ""
    """User of the gate's own host who reads and writes the folder; {account} is the account's name. Empty: the daemon's
    own; a daemon that is root needs a name here. With through = "place" it is the place's `user`."""
    quota: Annotated[int, Field(ge=0, le=1 << 60, strict=True)] = 0
    """Bytes that the folder may have in all for files to be sent there. 0: as many as the disk takes."""
    archives: File = None
    """Folder of the archives that `vncgate archive build` makes. None: `archives` in the state folder."""
    archive_days: Annotated[Count, Field(ge=1)] = 30
    """Days that these archives are kept."""
