"""What the tests on real parts share: a word for what they need, and what happens when it is not there; a browser.

from tests.real.conftest import need
"""

from __future__ import annotations

import contextlib
import os
import shutil

import pytest
import pytest_asyncio

PACKAGES = {
    "Xvnc": "tigervnc-standalone-server",
    "apache2": "apache2",
    "chromium": "chromium",
    "munged": "munge",
    "npm": "npm",
    "openbox": "openbox",
    "openssl": "openssl",
    "pdftoppm": "poppler-utils",
    "sbatch": "slurm-client",
    "sinfo": "slurm-client",
    "squeue": "slurm-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "systemd-analyze": "systemd",
    "systemd-run": "systemd",
    "unshare": "util-linux",
    "xdpyinfo": "x11-utils",
    "xev": "x11-utils",
    "xterm": "xterm",
    "zbarimg": "zbar-tools",
}
"""The Debian package of each program that has another name, or that a test asks for."""

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/lib/systemd", "/lib/systemd")
"""Where programs lie that are not on every user's PATH."""


def find(program: str) -> str | None:
    """The full path of a program, on PATH or in the system's folders; None where it is missing."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS]))


def need(*programs: str) -> None:
    """Skip the test (or, at the head of a module, all of its tests) when one of `programs` is missing.

    The reason names each program and its Debian package.
    """
    missing = [f"{name} (Debian package {PACKAGES.get(name, name)})" for name in programs if find(name) is None]
    if missing:
        pytest.skip("missing: " + ", ".join(missing), allow_module_level=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium():
    """A Chromium for all tests of a module; these run in the module's loop."""
    need("chromium")
    from tests.real.browser import launch  # here, because most tests start without playwright

    async with launch() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def browse(chromium):
    """A function that opens an address in a context of its own; see browser.open_page()."""
    from tests.real.browser import open_page

    async with contextlib.AsyncExitStack() as stack:

        async def browse_(url, before=None, **options):
            context = await chromium.new_context(ignore_https_errors=True, **options)
            stack.push_async_callback(context.close)
            return await open_page(context, url, before)

        yield browse_
