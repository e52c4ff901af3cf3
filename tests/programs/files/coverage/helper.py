def double(value):
    if value is None:
        return None
    return 2 * value
