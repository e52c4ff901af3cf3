"""The manual interface of PyPI's code-data-share, on top of this interpreter's archives."""

from cds.code_data_share.manual import (
    CDSException,
    _create_archive,
    _get_initialized,
    _get_obj,
    _load_archive,
    _move_in,
    _set_mode,
    _set_verbose,
    flags,
)
