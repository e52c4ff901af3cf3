"""The settings that turn the cache on and off: for a virtual environment, or for a user."""

import contextlib
import os
import shutil
import sys
import tempfile

_NAME = "cds"


class SettingError(Exception):
    """The setting cannot be changed; the text says why, and what to do."""


def set_for_environment(value: str) -> str:
    """Write `cds = VALUE` into the pyvenv.cfg of this virtual environment and return its path."""
    if sys.prefix == sys.base_prefix:
        raise SettingError(
            "this interpreter does not belong to a virtual environment; "
            "run the command with the python of an environment, or add --user"
        )
    path = os.path.join(sys.prefix, "pyvenv.cfg")
    try:
        status = os.stat(path)
        if status.st_uid != os.geteuid():
            raise SettingError(
                f"{path} belongs to another user, so it would have no effect for you; "
                "add --user, or set PYTHON_CDS=auto"
            )
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        kept = [line for line in lines if line.partition("=")[0].strip() != _NAME]
        _replace(path, "\n".join([*kept, f"{_NAME} = {value}", ""]))
    except OSError as error:
        raise SettingError(f"cannot change {path}: {error.strerror}") from error
    return path


def set_for_user(is_on: bool) -> str:
    """Write or remove the file that turns the cache on for this user, and return its path."""
    path = _enabling_file()
    if path is None:
        raise SettingError(
            "HOME is not set, so there is no directory for settings; "
            "set HOME or XDG_CONFIG_HOME to an absolute path"
        )
    try:
        if is_on:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "a", encoding="utf-8"):
                pass
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    except OSError as error:
        raise SettingError(f"cannot change {path}: {error.strerror}") from error
    return path


def find() -> str | None:
    """Return the setting that turns the cache on for new processes like this one, or None."""
    from _cds_archive import entries_of

    # The rules of the launcher (runtime/startup-image/src/cache.rs).
    if entries_of([os.fsencode(sys.executable), b"-c", b"pass"]) is None:
        return None
    if os.environ.get("PYTHON_CDS"):
        return "PYTHON_CDS=auto"
    return _configuration() if _of_environment() is not None else _enabling_file()


def turned_off_by() -> str | None:
    """Return what turns the cache off here, if it is enabled for the user and a setting does."""
    if os.environ.get("PYTHON_CDS"):
        return "PYTHON_CDS"
    return "this virtual environment" if _of_environment() == "off" else None


def _configuration() -> str:
    return os.path.join(sys.prefix, "pyvenv.cfg")


def _of_environment() -> str | None:
    """Return the setting in the pyvenv.cfg of this virtual environment, or None."""
    try:
        with open(_configuration(), encoding="utf-8") as file:
            settings = [line.partition("=") for line in file]
    except OSError:
        return None
    values = (value.strip() for name, _, value in settings if name.strip() == _NAME)
    return next(values, None)


def _enabling_file() -> str | None:
    from _cds_archive import enabling_file

    found: str | None = enabling_file()
    return found


def _replace(path: str, text: str) -> None:
    """Replace a file, so that it is never incomplete."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
