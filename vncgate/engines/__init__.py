"""Engines: the ways a proxy can run. `base` says what one must do; `relay` and `websockify` do it."""
