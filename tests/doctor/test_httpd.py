import pytest

from vncgate.doctor.httpd import idle_limit, read_dump, read_passes, value

DUMP = """\
# In file: /etc/apache2/apache2.conf
#  92:
Timeout 300
#  98:
MaxRequestWorkers 100
# 100:
<Directory />
  # 101:
  Require all denied
</Directory>
# In file: /etc/apache2/mods-enabled/mpm_event.conf
#   9:
MaxRequestWorkers 150
# In file: /etc/apache2/sites-enabled/vncgate.conf
#  27:
<VirtualHost *:443>
  #  28:
  ServerName workshop.example.org
  #  29:
  Timeout 45
# In file: /etc/apache2/vncgate.snippet
  #   1:
  ProxyPassMatch "^/ws/([a-z]+)$" "ws://127.0.0.1:8081/ws/$1" retry=0 timeout=90
# In file: /etc/apache2/sites-enabled/vncgate.conf
  #  40:
  <Location /other/>
    #  41:
    ProxyPass ws://localhost:7000/websockify
  </Location>
  #  43:
  ProxyPass /not !
  #  44:
  ProxyPass / http://10.0.0.1:8080/
</VirtualHost>
#  50:
<VirtualHost *:80>
  #  51:
  RewriteRule "^/r/(.*)" "ws://[::1]:8081/ws/$1" [P,L]
  #  52:
  RewriteRule "^/x/(.*)" "https://example.org/" [R]
</VirtualHost>
#  60:
ProxyTimeout 70
Syntax OK
AH00558: apache2: Could not reliably determine the server's name
""".splitlines()
HERE = {"127.0.0.1", "::1", "localhost"}


def test_values_are_the_last_ones_and_a_virtual_hosts_own_come_first():
    directives = read_dump(DUMP)
    assert value(directives, "maxrequestworkers", (400, "")) == (150, "/etc/apache2/mods-enabled/mpm_event.conf:9")
    assert value(directives, "timeout", (60, "")) == (300, "/etc/apache2/apache2.conf:92")
    assert value(directives, "timeout", (60, ""), 1) == (45, "/etc/apache2/sites-enabled/vncgate.conf:29")
    assert value(directives, "timeout", (60, ""), 2) == (300, "/etc/apache2/apache2.conf:92")
    assert value(directives, "serverlimit", (16, "default")) == (16, "default")
    assert value(directives, "proxytimeout", (60, "")) == (70, "/etc/apache2/sites-enabled/vncgate.conf:60")


def test_what_is_passed_on_and_where_to():
    passes = list(read_passes(read_dump(DUMP), HERE))
    assert [(each.pattern, each.port, each.at.host, each.at.place) for each in passes] == [
        ("^/ws/([a-z]+)$", 8081, 1, "/etc/apache2/vncgate.snippet:1"),
        ("/other/", 7000, 1, "/etc/apache2/sites-enabled/vncgate.conf:41"),
        ("/not", 0, 1, "/etc/apache2/sites-enabled/vncgate.conf:43"),
        ("/", 0, 1, "/etc/apache2/sites-enabled/vncgate.conf:44"),
        ("^/r/(.*)", 8081, 2, "/etc/apache2/sites-enabled/vncgate.conf:51"),
    ]
    match, location = passes[:2]
    assert match.fits("/ws/abc")
    assert not match.fits("/ws/a/b")
    assert location.fits("/other/x")
    assert not location.fits("/")


@pytest.mark.parametrize(
    ("lines", "limit"),
    [
        ("ProxyPass /a ws://h/ timeout=90 retry=3", 90),
        ("ProxyTimeout 70\nTimeout 20\nProxyPass /a ws://h/", 70),
        ("Timeout 20\nProxyPass /a ws://h/", 20),
        ("ProxyPass /a ws://h/ timeout=soon", 60),
    ],
)
def test_how_long_a_quiet_tunnel_lives(lines, limit):
    directives = read_dump(["# In file: x", *lines.splitlines()])
    assert idle_limit(directives, directives[-1])[0] == limit


@pytest.mark.parametrize(
    "line", ['ProxyPass "', "<", "</", "<VirtualHost", "<Location >", "ProxyPass /x ws://h:x/", '""']
)
def test_no_line_breaks_the_reading(line):
    list(read_passes(read_dump(["# In file: x", line, "</Location>", line]), HERE))


def test_a_pattern_that_python_does_not_know_is_believed():
    (each,) = read_passes(read_dump(["# In file: x", r"ProxyPassMatch ^/(?<n>\K) ws://localhost:1/"]), HERE)
    assert each.fits("/anything")
