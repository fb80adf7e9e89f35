"""What goes wrong at the places where desktops run, through the whole gate: images that are missing, a container that
is killed, connections that are lost; with what operators read, and what the participant sees in Chromium.

A full home is in test_desktops.py, a cluster in test_slurm_class.py.
"""

from __future__ import annotations

import platform

import pytest

from tests.launchers.places import apptainer_path, desktop_tree, podman  # noqa: F401 - fixtures
from tests.real.browser import log_in, says
from tests.real.conftest import need
from tests.real.launching import Gate, enter, kind, section, types
from tests.real.podman import IMAGE
from tests.real.sshd import Sshd

need("Xvnc", "openbox", "xterm", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

LATER = "later:test"


@pytest.fixture(scope="module")
def gate(podman, apptainer_path, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("d")
    kinds = [
        kind("docker", "docker", f'image = "{IMAGE}"'),
        kind("unloaded", "docker", f'image = "{LATER}"'),
        kind("undeployed", "local", f'wrap = "apptainer"\nimage = "{folder}/later"'),
    ]
    settings = "".join([section("docker", podman.place()), *kinds])
    gate = Gate(folder, settings, **{name: name for name in ("docker", "unloaded", "undeployed")})
    gate.environ["PATH"] = f"{apptainer_path}:{gate.environ['PATH']}"
    with gate:
        yield gate


def page_of(gate, name):
    return f"{gate.url}desk/path-{name}/"


async def test_an_image_that_is_missing_and_is_brought(browse, gate, podman, desktop_tree):  # noqa: F811
    names = ("unloaded", "undeployed")
    pages = {name: await browse(page_of(gate, name)) for name in names}
    for page in pages.values():
        await says(page, "Your desktop has failed", "The image that it runs in is not there yet")
    reasons = {name: gate.desktop(name)["reason"] for name in names}
    assert f"the image {LATER} is not on this host: `{podman.command} pull {LATER}` brings it" in reasons["unloaded"]
    missing = f"The image {gate.folder}/later is missing on {platform.node()}: vncgate images deploy brings it there"
    assert missing in reasons["undeployed"]

    podman.run("tag", IMAGE, LATER)
    (gate.folder / "later").symlink_to(desktop_tree)
    for name, page in pages.items():
        await page.get_by_role("button", name="Try again").click()
        await log_in(page, f"pw-{name}")
    for name, page in pages.items():
        await types(page, gate.home(name), "typed")


async def test_a_container_that_is_killed_from_outside(browse, gate, podman):  # noqa: F811
    page = await browse(page_of(gate, "docker"))
    await enter(page, "docker")
    await types(page, gate.home("docker"), "before")
    first = gate.servers()
    (container,) = podman.run("ps", "--quiet", "--filter=label=vncgate.account=docker").split()
    podman.run("kill", container)
    gate.until(lambda: gate.desktop("docker")["restarts"] == 1)
    assert "its container was killed from outside" in gate.log
    await types(page, gate.home("docker"), "after")
    assert len(gate.servers().keys() - first.keys()) == 1
    assert len(gate.servers()) == len(first)


async def test_a_host_that_is_away_for_a_while(browse, tmp_path_factory):
    folder = tmp_path_factory.mktemp("d")
    with (
        Sshd(folder / "host") as sshd,
        Gate(folder, section("ssh", sshd.place()) + kind("ssh", "ssh"), ws01="ssh") as gate,
    ):
        page = await browse(page_of(gate, "ws01"))
        await enter(page, "ws01")
        await types(page, gate.home("ws01"), "before")
        first = gate.servers()
        sshd.stop()
        gate.until(lambda: "no ssh connection to 127.0.0.1" in gate.desktop("ws01")["reason"])
        await says(page, "The desktop is offline")
        assert gate.states() == {"ws01": "RUNNING"}
        sshd.start()
        await types(page, gate.home("ws01"), "after")
        assert gate.servers() == first, "it was not ended, and none was started beside it"
        assert gate.desktop("ws01")["reason"] == ""
