"""Agents: started as the account's user on the host that has its folder, given one order, read, and ended.

However many ask, there are only so many at a time; whoever has none after a while is told to come again. An agent that
says nothing for too long is ended, and so is one whose asker went away.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import resources
from typing import Any, Protocol, TypeVar

from vncgate.errors import FilesError
from vncgate.model import Account
from vncgate.takeaway.hands import Hand, Hands

AT_ONCE = 32
"""Agents at the same time."""
AT_ONCE_EACH = 4
"""Agents of an account at the same time."""
TURN_TIMEOUT = 20.0
"""Seconds to wait for a turn."""
ANSWER_TIMEOUT = 60.0
"""Seconds that an agent has to answer: a folder with very many files has to be looked through."""
SILENCE_TIMEOUT = 60.0
"""Seconds in which an agent that writes an archive has to have written something."""
LONGEST_ANSWER = 4 << 20
"""Bytes of an answer."""
MODULES = "folder", "archives", "uploads", "main"
"""The modules of the agent, in the order in which they need each other."""
PACKAGE = "vncgate.takeaway.agent"
BEGUN = b"vncgate agent\n"
"""What an agent says first: start-up files of a shell may have said something before it."""

Result = TypeVar("Result")

LOADER = (
    "import json,os,sys,types\n"
    "os.closerange(3,1024)\n"
    "for name,text in json.loads(sys.stdin.buffer.readline().decode()):\n"
    " module=sys.modules[name]=types.ModuleType(name)\n"
    " module.__path__=[]\n"
    " exec(compile(text,name,'exec'),module.__dict__)\n"
    "os.write(1,b'vncgate agent\\n')\n"
    "sys.modules[name].main(sys.stdin.buffer)\n"
)
"""What makes modules of the first line of its input, as an import would, and has the last of them read the others."""


@functools.cache
def program() -> bytes:
    """The agent, as LOADER reads it."""
    files = resources.files("vncgate.takeaway.agent")
    parents = [[name, ""] for name in ("vncgate", "vncgate.takeaway", PACKAGE)]
    texts = [[f"{PACKAGE}.{name}", files.joinpath(f"{name}.py").read_text()] for name in MODULES]
    return json.dumps([*parents, *texts]).encode() + b"\n"


class Asked:
    """An agent that has answered; what follows the answer is read, and what an upload brings is written."""

    def __init__(self, hand: Hand, account: str) -> None:
        self._hand = hand
        self._account = account
        self._read = b""
        self.answer: Mapping[str, Any] = {}

    async def begin(self, order: Mapping[str, Any]) -> None:
        """Give it its order."""
        await self._within(self._hand.write(program() + json.dumps(order).encode() + b"\n"), ANSWER_TIMEOUT)

    async def hear(self, seconds: float = ANSWER_TIMEOUT) -> Mapping[str, Any]:
        """Its answer, which is kept; it may take so long. Raises FilesError where that says no, or there is none."""
        await self._until(BEGUN, ANSWER_TIMEOUT)
        line = await self._until(b"\n", seconds)
        try:
            self.answer = json.loads(line)
        except ValueError:
            raise self._silent("answers what cannot be understood") from None
        if kind := self.answer.get("error"):
            more = {name: value for name, value in self.answer.items() if name not in ("error", "about")}
            about = str(self.answer.get("about", ""))
            raise FilesError(f"the files of {self._account}: {WORDS.get(kind, kind)} ({about})", kind, about, **more)
        return self.answer

    async def read(self) -> bytes:
        """Some of what follows the answer; nothing at its end. Raises FilesError where it did not come to its end."""
        if self._read:
            data, self._read = self._read, b""
            return data
        if data := await self._within(self._hand.read(), SILENCE_TIMEOUT):
            return data
        if await self._within(self._hand.ended(), SILENCE_TIMEOUT):
            raise self._silent("ended in the middle")
        return b""

    async def write(self, data: bytes) -> None:
        """Write what an upload brought."""
        await self._within(self._hand.write(data), SILENCE_TIMEOUT)

    async def end_input(self) -> None:
        """There is no more."""
        await self._hand.end_input()

    async def _until(self, mark: bytes, seconds: float) -> bytes:
        async def look() -> bytes:
            while mark not in self._read:
                data = await self._hand.read()
                if not data or len(self._read) > LONGEST_ANSWER:
                    raise self._silent(f"did not answer: {await self._hand.words()}")
                self._read += data
            before, _, self._read = self._read.partition(mark)
            return before

        return await self._within(look(), seconds)

    async def _within(self, work: Awaitable[Result], seconds: float) -> Result:
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise self._silent(f"said nothing for {seconds:g} s") from None
        except OSError as error:
            raise self._silent(f"went away: {error.strerror or error}") from None

    def _silent(self, words: str) -> FilesError:
        return FilesError(f"the files of {self._account}: the agent {words}", "away")


WORDS = {
    "missing": "there is no such file or folder",
    "denied": "this may not be done there",
    "full": "the disk is full, or its quota is used up",
    "quota": "no more files may be sent there",
    "clash": "there is a file of that name",
    "name": "no file should have this name",
    "offset": "the upload goes on elsewhere",
    "busy": "the upload is being written to",
    "failed": "it did not work",
}
"""What the kinds of refusals mean to an operator."""


class Files(Protocol):
    """Whoever asks agents."""

    def ask(self, account: Account, **order: Any) -> contextlib.AbstractAsyncContextManager[Asked]:
        """An agent of the account, with its order given and its answer heard."""


class Agents:
    """Starts agents, a few at a time."""

    def __init__(self, hands: Hands, root: Callable[[Account], str]) -> None:
        """`root` says where an account's folder is."""
        self._hands = hands
        self._root = root
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._turns_each: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE_EACH))

    @contextlib.asynccontextmanager
    async def ask(self, account: Account, **order: Any) -> AsyncIterator[Asked]:
        """An agent of the account that was given its order; it is ended with the block. Its answer is heard already,
        but where it is to `append`. Raises FilesError.
        """
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(TURN_TIMEOUT):
                    await stack.enter_async_context(self._turns_each[account.name])
                    await stack.enter_async_context(self._turns)
            except TimeoutError:
                raise FilesError(f"the files of {account.name}: too many agents are at work", "busy") from None
            hand = await stack.enter_async_context(self._hands.agent(account, LOADER))
            asked = Asked(hand, account.name)
            await asked.begin({"root": self._root(account), **order})
            if order["do"] != "append":
                await hand.end_input()
                await asked.hear()
            yield asked

    async def do(self, account: Account, **order: Any) -> Mapping[str, Any]:
        """Have an agent do what is done with its answer, and return that. Raises FilesError."""
        async with self.ask(account, **order) as asked:
            return asked.answer

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._hands.aclose()
