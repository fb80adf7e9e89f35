"""vncgate: a workshop's desktops in every participant's browser, from one text file.

A long-running asyncio daemon reads a token file (a line an account), keeps one websocket-to-VNC proxy for each
account, writes Apache's ProxyPass lines and the landing page, and serves that page with a viewer.

The house has floors; a room imports only from the floors below its own (checked by import-linter):

    0  pure: errors model text kinds tokens hostlist new_accounts settings setting_faults grants checks plan lifecycle
             readiness forwarded tally rfb rfb_input messages render desktop_life desktop_choice desktop_words
    1  hands: channel files handover watch roster process nursery listeners dial probe scrape systemd log tasks serving
    2  engines (base, relay, pool, websockify)
    3  supervisor  prober  images launcher (desktop_runner, desktop_view, launch, yard, store)  publish  upgrade worker
    4  web  control
    5  daemon (token_file, doors, publications)  rehearsal  demo  doctor  cli

`daemon` is the only place where all is put together. docs/architecture.md says the same in prose.
"""

__version__ = "0.1.0"
