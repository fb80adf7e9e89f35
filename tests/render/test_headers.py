from vncgate.render.headers import STATIC_HEADERS, novnc_policy, policy


def test_nothing_inline_and_nobody_else():
    rules = dict(rule.split(" ", 1) for rule in policy().split("; "))
    assert rules["default-src"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == rules["frame-ancestors"] == "'self'"
    assert "unsafe" not in policy()
    assert "http" not in policy()


def test_websockets_of_another_port_are_named():
    assert "connect-src 'self' ws://h:8081 wss://h:8081;" in policy(["ws://h:8081", "wss://h:8081"])


def test_a_meta_element_leaves_out_what_browsers_ignore_there():
    assert "frame-ancestors" not in policy(meta=True)


def test_what_apache_sends_is_one_line_each():
    assert STATIC_HEADERS["Content-Security-Policy"] == policy()
    assert not any('"' in value or "\n" in value for value in STATIC_HEADERS.values())


def test_a_sites_novnc_may_style_inline_but_not_script():
    assert "style-src 'self' 'unsafe-inline'" in novnc_policy()
    assert "script" not in novnc_policy()
