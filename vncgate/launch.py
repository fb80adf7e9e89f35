"""One start of one desktop: what is on disk of it, what its place is asked, the password of its VNC server.

It begins as a word on disk, and ends when its place has nothing of it any more and the file is removed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from vncgate.errors import LaunchError
from vncgate.kinds import Kind
from vncgate.launchers.base import Handle, Spec, expand
from vncgate.model import Secret, Want
from vncgate.store import Entry, Store
from vncgate.yard import Yard

log = logging.getLogger(__name__)

LOG_LINES = 200
LONGEST_LOG = 65536
"""Characters that are kept of the log of a desktop that is gone."""


class Launch:
    """`entry` is what it is; `yard` is where (None: a place that is not in the settings); `secret` is what its VNC
    server asks for (None: nobody knows). One that `is_over` is kept nowhere any more.
    """

    def __init__(self, entry: Entry, yard: Yard | None, store: Store, *, is_kept: bool) -> None:
        self.entry = entry
        self.yard = yard
        self.secret: Secret | None = None
        self._store = store
        self._kept = entry if is_kept else None
        self.is_over = False
        self._is_told = False
        self._writing = asyncio.Lock()

    @property
    def handle(self) -> Handle | None:
        """By what its place finds it; None while its place has nothing of it."""
        return self.entry.handle if self.entry.asked and not self.is_over else None

    async def submit(self, account: str, kind: Kind, secret: Secret) -> None:
        """Ask its place for it, under the name `account`. Raises LaunchError; then it is over, nothing of it left."""
        yard, handle = self.yard, self.entry.handle
        assert yard is not None  # noqa: S101
        user, home = (expand(pattern, account) for pattern in (yard.settings.user, kind.home))
        handle = replace(handle, host=yard.choose_host(account), user=user)
        self.entry = replace(self.entry, handle=handle, asked=True)
        self.secret = secret
        try:
            await self._keep()
        except OSError as error:
            await self.forget()
            raise LaunchError(f"the gate cannot write {self._store.folder}: {error.strerror}") from None
        try:
            handle = await yard.place.submit(Spec(account, handle.nonce, handle.host, kind, secret, user, home))
        except LaunchError:
            await self.forget()
            raise
        self.entry = replace(self.entry, handle=handle)
        await self.keep()

    async def keep(self) -> None:
        """Have on disk what it is now; what fails is in the log, and is tried again with the next word."""
        try:
            await self._keep()
        except OSError as error:
            if not self._is_told:
                log.error("%s cannot be written: %s", self._store.folder, error.strerror, extra=self._extra)
            self._is_told = True
        else:
            self._is_told = False

    @property
    def is_kept(self) -> bool:
        """Whether what it is stands on disk."""
        return self._kept == self.entry

    @property
    def is_known_as_its_accounts(self) -> bool:
        """Whether a daemon after this one would give it to nobody else."""
        return self._kept is not None and self._kept.account == self.entry.account

    def has(self, password: Secret) -> bool:
        """Whether its VNC server asks for `password`, or where that is empty, for one of ours."""
        return self.secret is not None and self.secret == (password or self.secret)

    async def settle(self, secret: Secret) -> str:
        """Have it known as its account's, on disk and to its VNC server by `secret`; returns, in words, what failed."""
        await self.keep()
        if self.yard is not None and secret != self.secret:
            try:
                await self.yard.place.rekey(self.entry.handle, secret)
            except LaunchError as error:
                return f"its password could not be set: {error}"
            self.secret = secret
        return ""

    async def logs(self, lines: int) -> str:
        """The end of its session's log. Raises LaunchError."""
        if self.yard is None or self.handle is None:
            return ""
        return await self.yard.place.logs(self.handle, lines)

    async def last_log(self) -> str:
        """What is kept of its session's log when it ends."""
        try:
            return (await self.logs(LOG_LINES))[-LONGEST_LOG:]
        except LaunchError as error:
            log.debug("its log cannot be read: %s", error, extra=self._extra)
        except Exception as error:  # a defect: it must be ended all the same
            log.error("a defect: the desktop's log could not be read", exc_info=error, extra=self._extra)
        return ""

    async def unwanted(self, reason: str) -> None:
        """Nobody wants it any more: a daemon that is killed now is to find that on disk."""
        self.entry = replace(self.entry, want=Want.DOWN, reason=reason)
        await self.keep()

    async def cancel(self) -> str:
        """Have its place end it; returns, in words, why that could not be, or nothing."""
        if self.yard is None or self.handle is None:
            return ""
        try:
            async with self.yard.ends:
                await self.yard.place.cancel(self.handle)
        except LaunchError as error:
            return str(error)
        except Exception as error:  # a defect: but while it may run, nothing else may be started
            log.error("a defect: the desktop could not be ended", exc_info=error, extra=self._extra)
            return "the gate's log says why"
        return ""

    async def forget(self) -> str:
        """Nothing of it is left: neither is its file; returns, in words, why that is, or nothing."""
        async with self._writing:
            self.is_over = True
            try:
                await self._store.remove(self.entry.handle)
            except OSError as error:
                trouble = f"{self._store.folder}: a file cannot be removed: {error.strerror}"
                log.error("%s", trouble, extra=self._extra)
                return trouble
        return ""

    @property
    def _extra(self) -> dict[str, str]:
        return {"account": self.entry.account}

    async def _keep(self) -> None:
        async with self._writing:  # what is written later must not be overtaken, nor come after the end
            entry = self.entry
            if not self.is_over and entry != self._kept:
                await self._store.put(entry)
                self._kept = entry
