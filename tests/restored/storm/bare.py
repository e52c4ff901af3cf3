"""Nothing is imported before the freeze, not even this."""


def run() -> None:
    """Use what is there."""
    print(sum(range(1000)), "x".join("abc"))
