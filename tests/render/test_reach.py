from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

from tests.web.values import PASSWORD, account
from vncgate.render.reach import Reach, novnc_link, public_websocket
from vncgate.settings import load

APACHE = {"apache.form": "single"}
GUIDE = {"apache.form": "guide"}


@pytest.mark.parametrize(
    ("flags", "fronted", "root", "address"),
    [
        (APACHE, True, "../", "../ws/ws01"),
        (GUIDE, True, "../", "../ws01"),
        (APACHE, True, "../../", "../../ws/ws01"),
        ({}, False, "../", ":8081/ws/ws01"),
        ({"shared_port": 0}, False, "../", ":6000/websockify"),
        ({"engine": "websockify"}, False, "../", ":6000/websockify"),
        ({"engine": "websockify"}, True, "../", "../ws01"),
        ({"shared_port": 0}, True, "../", "../ws01"),
    ],
)
def test_the_websocket_of_a_page(flags, fronted, root, address):
    assert Reach(load(flags=flags), fronted, "gate.example:8080").websocket(account(), root) == address


@pytest.mark.parametrize(
    ("flags", "site", "address"),
    [
        (APACHE, "https://class.example", "wss://class.example/ws/ws01"),
        (APACHE, "https://class.example:8443/one/", "wss://class.example:8443/one/ws/ws01"),
        (GUIDE, "http://[::1]:90/index.html", "ws://[::1]:90/ws01"),
        ({}, "http://127.0.0.1:8080/", "ws://127.0.0.1:8081/ws/ws01"),
        ({"web": "[::1]:8080"}, "http://[::1]:8080", "ws://[::1]:8081/ws/ws01"),
        ({"engine": "websockify"}, "http://127.0.0.1:8080", "ws://127.0.0.1:6000/websockify"),
    ],
)
def test_the_websocket_for_who_knows_the_landing_page(flags, site, address):
    assert public_websocket(site, account(), load(flags=flags)) == address


def test_an_account_without_any_port_is_not_reached():
    settings = load(flags={"shared_port": 0})
    assert Reach(settings, False, "gate.example").websocket(account(port=None), "../") == ""
    assert public_websocket("http://127.0.0.1:8080", account(port=None), settings) == ""
    assert Reach(settings, False, "gate.example").origins(account(port=None)) == ()


@pytest.mark.parametrize(
    ("fronted", "authority", "origins"),
    [
        (False, "gate.example:8080", ("ws://gate.example:8081", "wss://gate.example:8081")),
        (False, "gate.example", ("ws://gate.example:8081", "wss://gate.example:8081")),
        (False, "[::1]:8080", ("ws://[::1]:8081", "wss://[::1]:8081")),
        (False, "[::1]", ("ws://[::1]:8081", "wss://[::1]:8081")),
        (True, "class.example:8443", ("ws://class.example:8443", "wss://class.example:8443")),
        (True, "", ()),
    ],
)
def test_the_policy_names_the_accounts_websocket(fronted, authority, origins):
    assert Reach(load(), fronted, authority).origins(account()) == origins


def test_a_sites_own_novnc_may_reach_any_port_of_this_host_and_of_no_other():
    assert Reach(load(), False, "gate.example:8080").origins() == ("ws://gate.example:*", "wss://gate.example:*")


def test_a_card_leads_to_our_viewer_or_to_the_sites_novnc():
    assert Reach(load(), True).link(account(), "./") == "./desk/ws01/"
    own = load(flags={"landing.novnc_dir": Path("/usr/share/novnc")})
    assert Reach(own, True).link(account(), "./").startswith("./novnc/vnc.html#path=../ws/ws01&")
    assert Reach(own, True).link(account(), "./", is_launched=True) == "./desk/ws01/"  # the waiting room is ours


def novnc_up_to_1_5(link, site):
    """app/ui.js of 1.3: scheme, host (this page's unless given), port (likewise), a slash, path."""
    page, values = urlsplit(urljoin(site, link)), _parameters(link)
    port = values.get("port", page.port)
    return urljoin(f"http://{values.get('host', page.hostname)}:{port}" + "/" + values["path"], "")


def novnc_from_1_6(link, site):
    """app/ui.js of 1.7: with a host `./path` from that host's root, else `path` from the page's own address."""
    values = _parameters(link)
    if "host" in values:
        return urljoin(f"http://{values['host']}:{values['port']}", "./" + values["path"])
    return urljoin(urljoin(site, link), values["path"])


def _parameters(link):
    return {name: value for name, (value,) in parse_qs(urlsplit(link).fragment, strict_parsing=True).items()}


@pytest.mark.parametrize("novnc", [novnc_up_to_1_5, novnc_from_1_6])
@pytest.mark.parametrize(
    ("websocket", "opened"),
    [
        ("ws/ws01", "http://class.example:80/ws/ws01"),
        ("websocketpath01", "http://class.example:80/websocketpath01"),
        (":8081/ws/ws01", "http://class.example:8081/ws/ws01"),
        (":6000/websockify", "http://class.example:6000/websockify"),
    ],
)
def test_both_generations_of_novnc_open_the_right_websocket(novnc, websocket, opened):
    # urljoin resolves "/../" at a root only when it joins, as a browser does with any address
    found = novnc(novnc_link(websocket, "class.example"), "http://class.example:80/")
    assert urljoin(found, urlsplit(found).path) == opened


def test_from_1_6_on_the_site_may_be_mounted_anywhere():
    link = novnc_link("ws/ws01", "class.example")
    assert novnc_from_1_6(link, "http://class.example/spring/") == "http://class.example/spring/ws/ws01"


def test_a_link_connects_by_itself_and_carries_no_password():
    link = novnc_link(":8081/ws/ws01", "[::1]")
    assert _parameters(link) == {
        "host": "[::1]",
        "port": "8081",
        "path": "ws/ws01",
        "autoconnect": "true",
        "reconnect": "true",
        "resize": "remote",
    }
    assert "?" not in link
    assert PASSWORD not in link
