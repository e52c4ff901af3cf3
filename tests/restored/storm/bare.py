"""Nothing is imported before the freeze, not even this module."""


def run() -> None:
    """Use the interpreter."""
    print(sum(range(1000)), "x".join("abc"))
