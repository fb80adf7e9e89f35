"""What `vncgate doctor` says of real places: a cluster by both transports, hosts by ssh, an engine without an image."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.doctor.cases import case, told
from tests.real.conftest import need
from tests.real.slurm import Cluster
from tests.real.sshd import Sshd
from vncgate.doctor import places
from vncgate.kinds import DesktopsSettings, DockerPlace, Kind
from vncgate.settings import Settings

pytestmark = pytest.mark.real


def launching(place, **kind):
    kinds = {"x": Kind(place="there", **{"command": ("xterm",)} | kind)}
    return case(settings=Settings(desktops=DesktopsSettings(kinds=kinds, places={"there": place})))


async def found(place, **kind):
    return [said for said in told(await places.check(launching(place, **kind))) if "these were asked" not in said[1]]


async def test_a_cluster():
    need("sinfo")
    with Cluster(nodes=1) as cluster:
        commands = Path(shutil.which("sinfo")).parent
        own = {"commands": commands, "conf": cluster.conf}
        cluster.start_rest()
        for place in (cluster.place(**own), cluster.place(transport="rest")):
            assert [result for result, _ in await found(place)] == ["ok"]
            ((result, message),) = await found(place, partition="gpu,urgent")
            assert result == "error"
            assert message.startswith("there: there is no partition gpu (kind x); there are ")
        cluster.controller.stop()
        ((result, message),) = await found(cluster.place(**own))
        assert result == "error"
        assert message.startswith("there: Slurm cannot be reached now")


async def test_a_host_by_ssh_and_one_whose_key_is_another(tmp_path):
    with Sshd(tmp_path) as sshd:
        sif = tmp_path / "x.sif"
        assert [result for result, _ in await found(sshd.place())] == ["ok"]
        said = await found(sshd.place(), wrap="apptainer", image=str(sif))
        assert ("error", f"there: there is no image {sif} on 127.0.0.1") in said
        known = sshd.known_hosts.read_text()
        sshd.new_host_key()
        sshd.known_hosts.write_text(known)
        sshd.stop()
        sshd.start()
        ((result, message),) = await found(sshd.place())
        assert result == "error"
        assert message.startswith("there: 127.0.0.1 has another key than the one in ")
        sshd.stop()
        ((result, message),) = await found(sshd.place())
        assert result == "error"
        assert "127.0.0.1" in message
        sshd.start()


async def test_an_engine_without_the_image():
    need("podman")
    place = DockerPlace(type="docker", user="root")
    assert await found(place, image="localhost/no-such-image:1") == [
        ("error", "there: the image localhost/no-such-image:1 is not here")
    ]
