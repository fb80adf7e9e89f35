"""Every place shown whole: from the landing page in Chromium to a key that is typed into a real session there."""

from __future__ import annotations

import json

import pytest

from tests.real.browser import log_in
from tests.real.conftest import browse, chromium, need  # noqa: F401 - fixtures
from tests.real.launching import Gate, types
from tests.real.podman import IMAGE

need("Xvnc", "openbox", "xterm", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

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
def gate(sshd, slurm_cluster, podman, short_folder):
    """A gate with an account for each place, which has its name."""
    places = {"ssh": sshd.place(), "slurm": slurm_cluster.place(), "docker": podman.place()}
    more = {"docker": f'image = "{IMAGE}"'}
    settings = [section(name, place) for name, place in places.items()]
    names = ("local", *places)
    settings += [kind(name, name, more.get(name, "")) for name in names]
    with Gate(short_folder, "".join(settings), **dict(zip(names, names, strict=True))) as running:
        yield running


async def test_from_the_landing_page_to_a_typed_key(browse, gate):  # noqa: F811
    pages = {}
    for name in gate.states():
        pages[name] = await browse(gate.url)
        await pages[name].get_by_role("link", name=name).click()
    for name, page in pages.items():
        await log_in(page, f"pw-{name}")
    for name, page in pages.items():
        await types(page, gate.home(name), "typed")
    assert gate.states() == dict.fromkeys(pages, "RUNNING")
