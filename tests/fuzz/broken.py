"""A target that stands nothing, to see that this is noticed."""


def one_input(data: bytes) -> None:
    """Fails."""
    raise AssertionError("as it must")
