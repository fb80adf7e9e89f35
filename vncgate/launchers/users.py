"""Whom desktops run as on the gate's own host: whether there is such a user, and whether the gate may be it."""

from __future__ import annotations

import os
import pwd

from vncgate.errors import LaunchError

NOT_AS_ROOT = "desktops do not run as root: set `user` of their place, for example to {account}"


def own_name() -> str:
    """Who we are; without a name, our number, as commands write it. It may ask a directory service, and so block."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def find(user: str, *, may_be_root: bool) -> pwd.struct_passwd:
    """`user`, or where that is empty, who we are. It may ask a directory service, and so block.

    Raises LaunchError where there is no such user, where it is another and we are not root, and where it is root,
    unless that is what was meant: see `kinds.LocalPlace.may_be_root`.
    """
    try:
        its = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except (KeyError, ValueError):
        raise LaunchError(f"there is no user {user or os.geteuid()!r} on the gate's host") from None
    if its.pw_uid == 0 and not may_be_root:
        raise LaunchError(NOT_AS_ROOT)
    if os.geteuid() not in (0, its.pw_uid):
        raise LaunchError(
            f"only root may start desktops as another user ({user}): run the gate as root, or set no `user`"
        )
    return its
