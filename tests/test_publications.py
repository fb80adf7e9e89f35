"""What is published of a roster: one failing keeps nothing else from it, and it is tried again."""

from __future__ import annotations

import asyncio

import pytest

from vncgate import publications, settings, tasks
from vncgate.errors import PublishError
from vncgate.model import Account, Desktop, Roster, Secret
from vncgate.publications import Publications

ROSTER = Roster((Account("ws01", Desktop("node01", 5901), "path01", None, Secret("canary")),))


@pytest.fixture
def folder(tmp_path):
    """Where the pages cannot be written: something is in the way."""
    (tmp_path / "site").write_text("in the way")
    return tmp_path / "site" / "pages"


async def test_without_settings_nothing_is_published():
    published = Publications(settings.load())
    await published.publish(ROSTER)
    await published.aclose()
    assert (published.apache_error, published.pages_error, published.outcomes()) == ("", "", {})


async def test_pages_that_cannot_be_written_do_not_keep_apaches_snippet(tmp_path, folder):
    snippet = tmp_path / "snippet.conf"
    flags = {"landing.export": folder, "apache.snippet": snippet, "apache.configtest": "true"}
    published = Publications(settings.load(flags=flags))
    await published.publish(ROSTER)
    assert "/ws/" in snippet.read_text()
    assert str(folder) in published.pages_error
    assert {name: outcome.is_good for name, outcome in published.outcomes().items()} == {
        "pages": False,
        "apache snippet": True,
        "apache reload": True,
    }
    await published.aclose()


class Apache:
    """A publisher that fails until it is mended."""

    def __init__(self, chosen):
        self.tried = []
        self.is_broken = True

    async def publish(self, roster):
        self.tried.append(asyncio.get_running_loop().time())
        if self.is_broken:
            raise PublishError("the disk is full")


@pytest.mark.virtual_time
async def test_what_failed_is_tried_again_every_minute_while_nobody_else_publishes(tmp_path, monkeypatch):
    monkeypatch.setattr(publications, "ApachePublisher", Apache)
    published = Publications(settings.load(flags={"apache.snippet": tmp_path / "snippet.conf"}))
    apache, lock = published._apache, asyncio.Lock()
    await published.publish(ROSTER)
    began = apache.tried.pop()
    keeping = tasks.spawn(published.keep_trying(lock), "publish again")
    async with lock:
        await asyncio.sleep(2.5 * publications.INTERVAL)
        assert not apache.tried
    await asyncio.sleep(publications.INTERVAL)
    apache.is_broken = False
    await asyncio.sleep(5 * publications.INTERVAL)
    assert [(when - began) / publications.INTERVAL for when in apache.tried] == [2.5, 3.5]
    await tasks.end(keeping)
