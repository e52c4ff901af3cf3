"""Tests of the package `cds`.  Run `python3.13 -m unittest` in the directory above.

Most tests run with any CPython 3.13: they replace the functions of the patched interpreter.
"""

import sys
import unittest

if sys.version_info < (3, 13):
    # Before 3.13, some frozen modules are C data and not marshalled; reading their data crashes.
    raise unittest.SkipTest("cds is part of CPython 3.13")
