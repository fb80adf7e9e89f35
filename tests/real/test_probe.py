"""The probe against TigerVNC, with the blacklist as it comes: on."""

import pytest

from tests.real.conftest import need
from tests.real.xvnc import Xvnc
from vncgate.errors import DesktopError
from vncgate.model import Readiness, Secret
from vncgate.probe import login

pytestmark = pytest.mark.real
need("Xvnc")


async def probe(server, password=None):
    return await login(server.desktop, password or server.password, connect_timeout=5, timeout=5)


async def fail(server, password=None) -> tuple[str, Readiness]:
    with pytest.raises(DesktopError) as caught:
        await probe(server, password)
    return str(caught.value), caught.value.readiness


@pytest.mark.parametrize("unix", [False, True])
async def test_twenty_probes_in_a_row_lock_nobody_out(tmp_path, unix):
    with Xvnc(tmp_path, unix=unix, blacklist=True) as server:
        for _ in range(20):
            found = await probe(server)
            assert (found.width, found.height) == (800, 600)


async def test_a_wrong_password_and_then_the_blacklist(tmp_path):
    with Xvnc(tmp_path, blacklist=True) as server:
        for _ in range(4):
            words = f"desktop {server.desktop} refused the password"
            assert await fail(server, Secret("wrong")) == (words, Readiness.WRONG_PASSWORD)
            await probe(server)  # what is right clears the count
        for _ in range(5):
            await fail(server, Secret("wrong"))
        words = f"desktop {server.desktop} refuses logins for now after too many failures (its blacklist)"
        assert await fail(server) == (words, Readiness.OFFLINE)


@pytest.mark.parametrize("password", ["longer than eight", "p\xe4ssw\xf6rt", "x"])
async def test_passwords_of_every_kind(tmp_path, password):
    with Xvnc(tmp_path, password=password) as server:
        await probe(server)


async def test_a_desktop_that_dies_and_comes_back(tmp_path):
    with Xvnc(tmp_path) as server:
        await probe(server)
        server.kill()
        assert await fail(server) == (f"desktop {server.desktop} refused the connection", Readiness.OFFLINE)
        server.start()
        await probe(server)


async def test_a_hung_desktop_is_told_within_the_time_limit(tmp_path):
    hung = pytest.raises(DesktopError, match=r"did not finish the login within 0.1 s")
    with Xvnc(tmp_path) as server, server.frozen(), hung:
        await login(server.desktop, server.password, connect_timeout=5, timeout=0.1)
