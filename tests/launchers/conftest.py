"""What the tests of places share: the places themselves."""

from tests.launchers.places import *  # noqa: F403 - fixtures
