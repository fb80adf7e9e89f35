"""Every place shown whole: from the landing page in Chromium to a key that is typed into a real session there, and to
another when the daemon was killed.
"""

from __future__ import annotations

import pytest

from tests.real.browser import log_in
from tests.real.conftest import browse, chromium, need  # noqa: F401 - fixtures
from tests.real.gate import ME
from tests.real.launching import Gate, kind, section, types
from tests.real.podman import IMAGE

need("Xvnc", "openbox", "xterm", "chromium")
# All places are made for it: a cluster, an image, Apptainer.
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]


@pytest.fixture
def gate(sshd, slurm_cluster, podman, apptainer_path, desktop_tree, short_folder):
    """A gate with an account for each place and wrap, which has its name."""
    (sshd.home / "bin").mkdir()
    (sshd.home / "bin/apptainer").symlink_to(apptainer_path / "apptainer")
    places = {"ssh": sshd.place(), "slurm": slurm_cluster.place(user=ME), "docker": podman.place()}
    wrap = f'wrap = "apptainer"\nimage = "{desktop_tree}"'
    kinds = {
        **{name: kind(name, name) for name in ("local", "ssh", "slurm")},
        "docker": kind("docker", "docker", f'image = "{IMAGE}"'),
        **{f"apptainer-{name}": kind(f"apptainer-{name}", name, wrap) for name in ("local", "ssh", "slurm")},
    }
    settings = "".join([*(section(name, place) for name, place in places.items()), *kinds.values()])
    gate = Gate(short_folder, settings, **{name: name for name in kinds})
    gate.environ["PATH"] = f"{apptainer_path}:{gate.environ['PATH']}"
    with gate:
        yield gate


async def test_from_the_landing_page_to_a_typed_key_and_to_another_when_the_daemon_was_killed(browse, gate):  # noqa: F811
    pages = {}
    for name in gate.states():
        pages[name] = await browse(gate.url)
        await pages[name].locator(f'.card[data-path="path-{name}"]').get_by_role("link").click()
    for name, page in pages.items():
        await log_in(page, f"pw-{name}")
    for name, page in pages.items():
        await types(page, gate.home(name), "typed")
    everywhere = dict.fromkeys(pages, "RUNNING")
    assert gate.states() == everywhere
    before = gate.servers()
    assert len(before) == len(pages)

    gate.begin_anew()
    gate.until(lambda: gate.states() == everywhere)
    for name, page in pages.items():
        await types(page, gate.home(name), "again")
    assert gate.servers() == before, "the same ones, and none twice"
    assert {gate.desktop(name)["restarts"] for name in pages} == {0}
