"""The pages as participants meet them: served by the daemon (app), or written for a web server (export)."""
