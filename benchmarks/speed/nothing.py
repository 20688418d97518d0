"""The function of a cold start, in a module that imports nothing: the user's own modules are another matter."""


def noop() -> None:
    """Nothing at all."""
