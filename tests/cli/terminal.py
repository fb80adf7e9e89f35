"""A command on a terminal of its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading


class Terminal:
    """A command on a terminal of its own; what it writes there is kept."""

    def __init__(self, *args):
        self.said = ""
        self._news = threading.Condition()
        self._terminal, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        argv = [sys.executable, "-m", "vncgate", *map(str, args)]
        self.process = subprocess.Popen(
            argv, stdin=inner, stdout=inner, stderr=inner, env=os.environ | {"TERM": "xterm"}
        )
        os.close(inner)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        with contextlib.suppress(OSError):  # EIO, once nobody has the inner end
            while data := os.read(self._terminal, 65536):
                with self._news:
                    self.said += data.decode(errors="replace")
                    self._news.notify_all()

    async def shows(self, words):
        """Wait until it has written this since the last time; what it wrote before is forgotten."""

        def wait():
            with self._news:
                assert self._news.wait_for(lambda: words in self.said, 10), self.said
                before, self.said = self.said, ""
                return before

        return await asyncio.to_thread(wait)

    async def end(self, number=None):
        """Send a signal; the exit status."""
        if number:
            self.process.send_signal(number)
        try:
            return await asyncio.to_thread(self.process.wait, 10)
        finally:
            self.process.kill()
            self._reader.join()
            os.close(self._terminal)
