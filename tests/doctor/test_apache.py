from pathlib import Path

import pytest

from tests.doctor.cases import account, case, results, told
from vncgate.doctor import apache
from vncgate.doctor.base import Output
from vncgate.doctor.httpd import read_dump, read_passes
from vncgate.render.apache import render

HERE = {"127.0.0.1", "::1", "localhost"}
V = (2, 4, 62)


def configuration(text):
    """The directives of a virtual host, and what it passes on."""
    directives = read_dump(["# In file: site", "<VirtualHost *:443>", *text.splitlines(), "</VirtualHost>"])
    return directives, list(read_passes(directives, HERE))


def test_what_the_commands_say():
    assert apache.version_of(Output(0, ["x", "Server version: Apache/2.4.62 (Debian)"])) == V
    assert apache.version_of(Output(0, ["nginx"])) == ()
    said = Output(0, ["AH00558: x", "Loaded Modules:", " core_module (static)", " proxy_http_module (shared)"])
    assert apache.module_names(said) == {"core", "proxy_http"}


@pytest.mark.parametrize(
    ("version", "modules", "result"),
    [
        (V, {}, "ok"),
        ((2, 4, 47), {}, "ok"),
        ((2, 4, 46), {"proxy_wstunnel"}, "warning"),
        ((2, 4, 46), {"proxy_http"}, "error"),
        ((), {}, "warning"),
    ],
)
def test_versions(version, modules, result):
    assert results(apache.judge_version(version, frozenset(modules))) == [result]


ALL = {"proxy", "proxy_http", "ssl", "headers", "setenvif", "deflate"}


def test_modules():
    def judged(*missing, debian=True):
        return list(apache.judge_modules(frozenset(ALL - {*missing}), debian=debian))

    assert results(judged()) == ["ok"]
    assert results(judged("proxy_http", "ssl", "deflate")) == ["error", "warning"]
    assert judged("proxy_http")[0].advice == "a2enmod proxy_http && systemctl restart apache2"
    assert "LoadModule" in judged("proxy_http", debian=False)[0].advice
    assert results(apache.judge_modules(frozenset(), debian=True)) == ["skipped"]


def judged_passes(text, *accounts, flags=None):
    return told(apache.judge_passes(configuration(text)[1], case(*accounts, flags=flags)))


@pytest.mark.parametrize("flags", [{}, {"apache.form": "guide"}, {"engine": "websockify"}])
def test_our_own_snippet_is_right(flags):
    each = case(account("ws01", 7001), account("ws02", 7002), flags=flags)
    text = render(each.roster, each.settings) + "ProxyPass / http://127.0.0.1:8080/\n"
    assert results(apache.judge_passes(configuration(text)[1], each)) == ["ok"]


SEATS = {"access": "seat", "public_url": "https://workshop.example.org/"}


@pytest.mark.parametrize(
    ("line", "flags", "result"),
    [
        ("", SEATS, ["error"]),
        ("RequestHeader set X-Forwarded-Proto https", SEATS, ["ok"]),
        ('RequestHeader set x-forwarded-proto "expr=%{REQUEST_SCHEME}"', SEATS, ["ok"]),
        ("RequestHeader append X-Forwarded-Proto https", SEATS, ["error"]),  # to what the browser made up
        ("RequestHeader set X-Forwarded-Host https", SEATS, ["error"]),
        ("", {}, []),
        ("", SEATS | {"public_url": "http://workshop.example.org/"}, []),
    ],
)
def test_where_people_sign_in_the_virtual_host_says_that_they_came_over_https(line, flags, result):
    each = case("ws01", flags=flags)
    directives, passes = configuration(render(each.roster, each.settings) + line)
    findings = list(apache.judge_https(directives, passes, each))
    assert results(findings) == result
    if result == ["error"]:
        assert "site:" in findings[0].message


def test_no_line_of_ours_at_all():
    text = "ProxyPass / http://127.0.0.1:8080/"
    assert judged_passes(text, "ws01") == [
        ("error", "nothing in its configuration passes websockets on to our ports: is our snippet included?")
    ]
    absent = {"apache.snippet": "/none/snippet.conf"}
    ((result, message),) = judged_passes(text, "ws01", flags=absent)
    assert (result, message) == ("error", "/none/snippet.conf is not there, so nothing passes websockets on")


def test_the_advice_can_be_typed():
    each = case("ws01", flags={"apache.snippet": "/none/s.conf"}, config=Path("/etc/c.toml"))
    (finding,) = apache.judge_passes([], each)
    assert finding.advice == (
        "vncgate render apache /etc/vncgate/w.tokens --config /etc/c.toml -o /none/s.conf; "
        "then: systemctl reload apache2"
    )


def test_a_line_above_ours_takes_all():
    text = "ProxyPass / http://127.0.0.1:8080/\nProxyPassMatch ^/ws/(.*)$ ws://127.0.0.1:8081/ws/$1"
    ((result, message),) = judged_passes(text, "ws01", "ws02")
    assert result == "error"
    assert "(proxypass /) takes the websockets of ws01, ws02" in message


def test_a_file_that_is_older_than_the_token_file():
    text = "ProxyPass /path-ws01 ws://127.0.0.1:7001/websockify\nProxyPass /path-ws02 ws://127.0.0.1:7009/websockify"
    accounts = [account("ws01", 7001), account("ws02", 7002), account("ws03", 7003)]
    found = judged_passes(text, *accounts, flags={"apache.form": "guide"})
    assert [result for result, _ in found] == ["error", "error"]
    assert found[0][1] == "1 account not passed on: ws03"
    assert "takes the websockets of ws02" in found[1][1]


def test_another_virtual_host_does_not_count():
    lines = ["# In file: s", "<VirtualHost a>", "ProxyPass / http://h/", "</VirtualHost>", "<VirtualHost b>"]
    directives = read_dump([*lines, "ProxyPassMatch ^/ws/(.*)$ ws://localhost:8081/ws/$1", "</VirtualHost>"])
    assert results(apache.judge_passes(list(read_passes(directives, HERE)), case("ws01"))) == ["ok"]


@pytest.mark.parametrize(
    ("timeout", "ping", "result"),
    [("timeout=90", 30.0, "ok"), ("timeout=59", 30.0, "warning"), ("timeout=30", 30.0, "error"), ("", 70.0, "error")],
)
def test_time_outs_against_our_ping(timeout, ping, result):
    directives, passes = configuration(f"ProxyPassMatch ^/ws/(.*)$ ws://127.0.0.1:8081/ws/$1 {timeout}")
    each = case("ws01", flags={"ping_interval": ping})
    assert results(apache.judge_timeout(directives, passes, each)) == [result]


@pytest.mark.parametrize(
    ("text", "modules", "accounts", "result"),
    [
        ("MaxRequestWorkers 150\nThreadsPerChild 25", "mpm_event", 50, "ok"),
        ("MaxRequestWorkers 150\nThreadsPerChild 25", "mpm_event", 51, "warning"),
        ("MaxRequestWorkers 150\nThreadsPerChild 25", "mpm_event", 151, "error"),
        ("MaxRequestWorkers 400\nServerLimit 32", "mpm_event", 175, "ok"),
        ("MaxRequestWorkers 400", "mpm_event", 75, "ok"),
        ("MaxRequestWorkers 400", "mpm_event", 76, "warning"),
        ("", "mpm_prefork", 103, "ok"),
        ("", "mpm_prefork", 104, "warning"),
    ],
)
def test_workers_against_accounts(text, modules, accounts, result):
    directives = read_dump(["# In file: mpm.conf", *text.splitlines()])
    assert results(apache.judge_workers(directives, frozenset({modules}), accounts)) == [result]


def test_the_words_about_workers_say_what_to_write_and_where():
    directives = read_dump(["# In file: /etc/apache2/mods-enabled/mpm_event.conf", "# 9:", "MaxRequestWorkers 150"])
    (finding,) = apache.judge_workers(directives, frozenset({"mpm_event"}), 175)
    assert finding.message == (
        "it serves 150 at once (MaxRequestWorkers), 175 participants need 400: two each and 50 to spare"
    )
    assert finding.advice == (
        "in /etc/apache2/mods-enabled/mpm_event.conf: MaxRequestWorkers 400, ServerLimit 32; "
        "then restart Apache, before the class"
    )


def scripted(folder, monkeypatch, **scripts):
    """Programs that say what a test wants, and no others."""
    for name, text in scripts.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr("vncgate.doctor.base.ADMIN_FOLDERS", "")
    monkeypatch.setattr("vncgate.doctor.apache.is_root", lambda: True)


async def test_no_apache(tmp_path, monkeypatch):
    scripted(tmp_path, monkeypatch, apachectl="exit 1", httpd="exit 1", apache2ctl="exit 1")
    assert told(await apache.check(case("ws01"))) == [("skipped", "there is none on this machine")]


async def test_rhels_apachectl_takes_no_flags_and_its_httpd_does(tmp_path, monkeypatch):
    httpd = """
    case "$*" in
      -V) echo 'Server version: Apache/2.4.62 (Red Hat)';;
      -M) for m in proxy proxy_http ssl headers setenvif deflate mpm_event; do echo " ${m}_module (shared)"; done;;
      *DUMP_CONFIG*) echo '# In file: x'; echo 'ProxyPassMatch ^/ws/(.*)$ ws://127.0.0.1:8081/ws/$1 timeout=90';;
    esac"""
    scripted(tmp_path, monkeypatch, httpd=httpd, apachectl='[ "$1" = configtest ]')
    assert results(await apache.check(case("ws01"))) == ["ok"] * 6


async def test_a_failed_config_test_ends_it(tmp_path, monkeypatch):
    script = """case "$1" in
      configtest) echo "AH00558: harmless"; echo "Syntax error on line 3 of x: Invalid command 'Oops'"; exit 1;;
      -V) echo 'Server version: Apache/2.4.62';;
    esac"""
    scripted(tmp_path, monkeypatch, apachectl=script)
    assert told(await apache.check(case("ws01"))) == [
        ("ok", "version 2.4.62"),
        ("error", "config test failed: Syntax error on line 3 of x: Invalid command 'Oops'"),
    ]


async def test_a_configuration_that_cannot_be_listed(tmp_path, monkeypatch):
    script = """case "$*" in
      -V) echo 'Server version: Apache/2.4.62';;
      *DUMP*) exit 1;;
    esac"""
    scripted(tmp_path, monkeypatch, apachectl=script)
    assert results(await apache.check(case("ws01"))) == ["ok", "ok", "skipped", "skipped"]
