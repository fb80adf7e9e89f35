"""How a browser reaches an account's websocket, and so where its card leads.

The address that a page carries (`data-websocket`) is one of

    ../ws/ws01          relative to the page: same scheme (ws or wss), host and port as the page
    :8081/ws/ws01       same scheme and host as the page, another port
    (empty)             this account cannot be reached without Apache
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from vncgate.model import Account
from vncgate.settings import Form, Settings


@dataclass(frozen=True, slots=True)
class Reach:
    """The way that one request came: through Apache (`fronted`) or straight to us.

    `authority` is the host and port in the browser's address bar, or empty where it is not known (static
    export, which is always fronted).
    """

    settings: Settings
    fronted: bool
    authority: str = ""

    @property
    def host(self) -> str:
        """The authority without its port; an IPv6 address keeps its brackets."""
        host, colon, port = self.authority.rpartition(":")
        return host if colon and port.isdigit() else self.authority

    def websocket(self, account: Account, root: str) -> str:
        """The account's websocket address for a page that reaches the site's root by `root`."""
        path = quote(account.path, safe="")
        if self.fronted:
            return f"{root}ws/{path}" if self.settings.snippet_form is Form.SINGLE else root + path
        if self.settings.accounts_port:
            return f":{self.settings.accounts_port}/ws/{path}"
        return f":{account.port}/websockify" if account.port else ""

    def link(self, account: Account, root: str, *, is_launched: bool = False) -> str:
        """Where the account's card leads: our viewer, or the vnc.html of the site's own noVNC.

        A desktop that the gate starts is waited for in our viewer.
        """
        if self.settings.landing.novnc_dir is None or is_launched:
            return f"{root}desk/{quote(account.path, safe='')}/"
        return root + novnc_link(self.websocket(account, ""), self.host)

    def origins(self, account: Account | None = None) -> tuple[str, ...]:
        """What a page's policy allows beside 'self': the account's websocket, or (None) those on any port."""
        if not self.authority:
            return ()
        if self.fronted:
            return (f"ws://{self.authority}", f"wss://{self.authority}")
        port = "*" if account is None else self.websocket(account, "").partition("/")[0].lstrip(":")
        return (f"ws://{self.host}:{port}", f"wss://{self.host}:{port}") if port else ()


def public_websocket(site: str, account: Account, settings: Settings) -> str:
    """The account's websocket (ws:// or wss://) for who opens the landing page at `site` (http:// or https://).

    Where `site` is the gate's own address (setting web), it is reached without Apache. Empty where the account then
    cannot be reached.
    """
    parts = urlsplit(site)
    reach = Reach(settings, fronted=parts.netloc != str(settings.web), authority=parts.netloc)
    address = reach.websocket(account, "")
    if address.startswith(":"):
        address = f"//{reach.host}{address}"
    return urljoin(site, address).replace("http", "ws", 1) if address else ""


def novnc_link(websocket: str, host: str) -> str:
    """The address of noVNC's own page, relative to the site's root, that opens `websocket`.

    `websocket` is as from Reach.websocket() with an empty root. noVNC takes `path` as relative to the host's
    root up to 1.5, and from 1.6 on relative to the page, unless a `host` is given: then to the host's root again.
    `../ws/ws01` is right in both where the site is the host's root, and from 1.6 on wherever it is mounted.
    The parameters stand in the fragment, which is sent to no server. Never a password among them.
    """
    if websocket.startswith(":"):
        port, _, path = websocket[1:].partition("/")
        where = {"host": host, "port": port, "path": path}
    else:
        where = {"path": f"../{websocket}"}
    parameters = {**where, "autoconnect": "true", "reconnect": "true", "resize": "remote"}
    return "novnc/vnc.html#" + "&".join(f"{name}={quote(value, safe='/[]:')}" for name, value in parameters.items())
