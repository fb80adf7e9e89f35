"""The place `ssh` with `user = "{account}"`: as docs/places/ssh.md has it, with an sshd and users of the test's own."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import pytest_asyncio

from tests.launchers.places import Site, log_in
from tests.real.conftest import need
from tests.real.sshd import Sshd
from vncgate import images
from vncgate.errors import LaunchError
from vncgate.launchers import host
from vncgate.launchers.base import Handle, Seen
from vncgate.launchers.scripts import Scripts
from vncgate.launchers.ssh import Ssh

pytestmark = pytest.mark.real

DOCUMENT = Path(__file__).parents[2] / "docs" / "places" / "ssh.md"
GROUP = f"vg{os.getpid()}"
USERS = f"{GROUP}a", f"{GROUP}b"


@pytest.fixture(scope="module")
def users():
    """Two users without a password, in a group of their own."""
    need("useradd", "userdel", "groupadd", "Xvnc")
    if os.geteuid() != 0:
        pytest.skip("makes users: needs root")
    subprocess.run(["groupadd", GROUP], check=True)
    try:
        for name in USERS:
            subprocess.run(["useradd", "-m", "-g", GROUP, "-p", "*", "-s", "/bin/bash", name], check=True)
        yield USERS
    finally:
        for name in USERS:
            subprocess.run(["userdel", "-r", name], capture_output=True)
        subprocess.run(["groupdel", GROUP], check=True)


@pytest.fixture(scope="module")
def server(users):
    """An sshd with the document's own lines: they alone let the gate's key in."""
    folder = Path(tempfile.mkdtemp(prefix="vg-"))
    folder.chmod(0o711)
    lines = re.search(r"vncgate\.conf <<'END'\n(.*?)\n *END\n", DOCUMENT.read_text(), re.DOTALL)[1]
    lines = lines.replace("school", GROUP).replace("192.0.2.10", "127.0.0.1")
    lines = lines.replace("/etc/ssh/vncgate.pub", f"{folder}/vncgate.pub")
    with Sshd(folder / "sshd", lines) as server:
        (folder / "vncgate.pub").write_text(server.key.with_suffix(".pub").read_text())
        server.key.with_suffix(".pub").unlink()  # where sshd looks for keys by itself
        yield server
    shutil.rmtree(folder)


@pytest_asyncio.fixture
async def place(server, short_folder):
    place = Ssh("nodes", server.place(user="{account}"), short_folder / "gate", Scripts(None))
    yield place
    await place.aclose()


def site_of(user, place, short_folder):
    return Site(lambda: place, Path(pwd.getpwnam(user).pw_dir, ".vncgate"), short_folder, "127.0.0.1")


def spec_of(site, user, *command):
    return dataclasses.replace(site.spec(*command, account=user, home=""), user=user)


async def test_each_account_s_desktop_is_its_own_user_s(users, server, place, short_folder):
    began = {}
    for user in users:
        site = site_of(user, place, short_folder)
        began[user] = site, *await site.start_of(spec_of(site, user, "sh", "-c", "id -un >who; pwd >>who; sleep 1000"))
    assert server.connections == len(users), "one each"
    for user, (site, spec, handle, seen) in began.items():
        assert (await log_in(seen)).name == user
        home = Path(pwd.getpwnam(user).pw_dir)
        await site.until(handle, lambda _, who=home / "who": who.exists() and "/" in who.read_text())
        assert (home / "who").read_text().split() == [user, str(home)]
        for path in (site.root, site.root / spec.nonce):
            assert (path.owner(), path.stat().st_mode & 0o777) == (user, 0o700)
    (site, spec, handle, _), (other, its, still_there, seen) = began.values()
    await place.cancel(handle)
    assert site.left(spec.nonce) == []
    await log_in(seen)
    await place.cancel(still_there)
    assert other.left(its.nonce) == []


async def test_who_is_not_of_the_group_is_not_let_in(place, short_folder):
    site = site_of("root", place, short_folder)
    with pytest.raises(LaunchError, match=r"127\.0\.0\.1 refuses the login as root"):
        await place.submit(spec_of(site, "root"))


async def test_an_account_with_root_s_name_starts_nothing(sshd, ssh_site, short_folder):
    """Even where root may log in."""
    if os.geteuid() != 0:
        pytest.skip("logs in as root: needs root")
    await ssh_site.place.aclose()
    ssh_site.place = Ssh("nodes", sshd.place(user="{account}"), short_folder / "gate", Scripts(None))
    spec = spec_of(ssh_site, "root")
    with pytest.raises(LaunchError, match=r"127\.0\.0\.1: desktops do not run as root: set `user` of their place"):
        await ssh_site.submit(spec)
    assert ssh_site.left(spec.nonce) == []


async def test_a_shell_that_hangs_before_it_comes_to_us_is_ended(users, server, place, short_folder, monkeypatch):
    """In a start-up file of its user, with what that file started."""
    user = users[0]
    begin = Path(pwd.getpwnam(user).pw_dir, ".bashrc")
    was = begin.read_text()
    begin.write_text("sleep 1000\n")
    monkeypatch.setattr(host, "PATIENCE", 3.0)
    try:
        seen = await place.query(Handle("nodes", user, "0123456789abcdef", "127.0.0.1", user))
        assert (seen.seen, seen.reason) == (Seen.UNKNOWN, "127.0.0.1 did not do within 3 s what it was asked")
        async with asyncio.timeout(20):
            while shells_of(user):
                await asyncio.sleep(0.02)
    finally:
        begin.write_text(was)


async def test_an_image_that_does_not_come_to_its_end_leaves_no_half_file(users, server, tmp_path):
    """sshd kills for users what it does not for root, and what is killed tidies nothing up."""
    user = users[0]
    folder = Path(pwd.getpwnam(user).pw_dir, "images")
    source = tmp_path / "xfce.sif"
    source.write_bytes(bytes(64 << 20))
    begun = asyncio.Event()
    copying = images.deploy(
        images.Delivery(source, f"{folder}/xfce.sif", "lab", 64 << 20),
        server.place(user=user),
        progress=lambda host, count: begun.set(),
        done=lambda host, words: None,
    )
    work = asyncio.ensure_future(copying)
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    async with asyncio.timeout(20):
        while shells_of(user):
            await asyncio.sleep(0.02)
    assert list(folder.iterdir()) == []


def shells_of(user: str) -> list[str]:
    """What runs as that user beside sshd's own process."""
    said = subprocess.run(["ps", "-u", user, "-o", "stat=,args="], capture_output=True, text=True, check=False).stdout
    return [line for line in said.splitlines() if "sshd:" not in line and not line.startswith("Z")]
