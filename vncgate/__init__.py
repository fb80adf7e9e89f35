"""vncgate: a workshop's desktops in every participant's browser, from one text file.

A long-running asyncio daemon reads a token file (a line an account), keeps one websocket-to-VNC proxy for each
account, writes Apache's ProxyPass lines and the landing page, and serves that page with a viewer.

The house has floors; a room imports only from the floors below its own (checked by import-linter):

    0  pure: errors model people text languages kinds (and the other sections of the settings) tokens hostlist
             new_accounts settings setting_faults grants checks plan lifecycle readiness forwarded tally rfb
             rfb_input rfb_view messages
             cookies seat_links guessing signup_form people_csv seat_table viewer_notes workshop render
             desktop_life desktop_choice desktop_words
    1  hands: channel files handover watch roster process nursery listeners dial probe scrape systemd log tasks serving
              store ledger catalogues pins rekeying
    2  engines (base, relay, pool, websockify)  launchers (base, local, ssh, slurm, docker, apptainer)
    3  supervisor  prober  images launcher (desktop_runner, desktop_view, launch, yard)  publish  upgrade worker
       seating  signing_up  mailing  organizing  workshop_life  takeaway  participants
    4  web  control
    5  daemon (token_file, doors, publications)  rehearsal  demo  doctor  cli

`daemon` is the only place where all is put together. docs/architecture.md says the same in prose.
"""

__version__ = "0.1.0"
