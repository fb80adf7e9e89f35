"""Engines: the ways a proxy can run. `base` says what one must do; a new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vncgate.engines.base import Engine, Limits
from vncgate.engines.relay import Relay
from vncgate.engines.websockify import Websockify
from vncgate.settings import EngineName

ENGINES: Mapping[EngineName, Callable[[Limits], Engine]] = {
    EngineName.RELAY: Relay,
    EngineName.WEBSOCKIFY: Websockify,
}
"""Each engine by its name in the settings."""
