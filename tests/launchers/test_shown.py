"""Every place shown whole: from the landing page in Chromium to a key that is typed into a real session there."""

from __future__ import annotations

import json

import pytest

from tests.real.browser import log_in
from tests.real.conftest import browse, chromium, need  # noqa: F401 - fixtures
from tests.real.launching import Gate, types
from tests.real.podman import IMAGE

need("Xvnc", "openbox", "xterm", "chromium")
# All places are made for it: a cluster, an image, Apptainer.
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]

KIND = """
[desktops.kinds.{name}]
place = "{place}"
command = "xterm -maximized"
window_manager = "openbox"
home = "{{homes}}/{{account}}"
{more}
"""


def section(name, place):
    """A place as the settings' file has it: JSON's values are TOML's, too."""
    values = place.model_dump(mode="json", exclude_unset=True).items()
    lines = [f"{key} = {json.dumps(value)}" for key, value in values if value is not None]
    return "\n".join([f"[desktops.places.{name}]", *lines, ""])


def kind(name, place, more=""):
    return KIND.format(name=name, place=place, more=more)


@pytest.fixture
def gate(sshd, slurm_cluster, podman, apptainer_path, desktop_tree, short_folder):
    """A gate with an account for each place and wrap, which has its name."""
    places = {"ssh": sshd.place(), "slurm": slurm_cluster.place(), "docker": podman.place()}
    wrap = f'wrap = "apptainer"\nimage = "{desktop_tree}"'
    kinds = {
        **{name: kind(name, name) for name in ("local", "ssh", "slurm")},
        "docker": kind("docker", "docker", f'image = "{IMAGE}"'),
        "apptainer": kind("apptainer", "local", wrap),
        "apptainer-slurm": kind("apptainer-slurm", "slurm", wrap),
    }
    settings = "".join([*(section(name, place) for name, place in places.items()), *kinds.values()])
    gate = Gate(short_folder, settings, **{name: name for name in kinds})
    gate.environ["PATH"] = f"{apptainer_path}:{gate.environ['PATH']}"
    with gate:
        yield gate


async def test_from_the_landing_page_to_a_typed_key(browse, gate):  # noqa: F811
    pages = {}
    for name in gate.states():
        pages[name] = await browse(gate.url)
        await pages[name].locator(f'.card[data-path="path-{name}"]').get_by_role("link").click()
    for name, page in pages.items():
        await log_in(page, f"pw-{name}")
    for name, page in pages.items():
        await types(page, gate.home(name), "typed")
    assert gate.states() == dict.fromkeys(pages, "RUNNING")
