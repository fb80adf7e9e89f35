"""Metrics on the port of the pages do not reach the public: through our example virtual hosts, with a real Apache."""

from __future__ import annotations

import aiohttp
import pytest

from tests.real.apache import HOST, Apache
from tests.real.conftest import need
from tests.real.test_apache import both, browser, site
from tests.workshop import Workshop

need("apache2")
pytestmark = pytest.mark.real


@both
async def test_the_public_site_has_no_metrics(name, tmp_path, free_port):
    workshop = Workshop(tmp_path, free_port)
    workshop.write("")
    address = f"127.0.0.1:{workshop.web}"
    # Named in Connection, a header is taken for one of this hop and dropped (CVE-2022-31813): not these.
    dropping = {"Host": HOST, "Connection": "close, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Server, Via"}
    async with workshop.running(**{"metrics.address": address}):
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as response:
            assert response.status == 200
        with Apache(site(name, workshop.web)) as apache:
            async with browser(apache) as client:
                for headers in ({}, dropping):
                    for path in ("/metrics", "//metrics", "/metrics?", "/%6detrics", "/desk/../metrics"):
                        response = await client.get(path, headers=headers)
                        assert response.status == 404
                        assert "vncgate_" not in await response.text()
                assert (await client.get("/healthz")).status == 200
