"""Tests of the package `cds`: `python3.13 -m unittest` in the directory above.

Any CPython 3.13 will do; what the patched one adds is faked where it is needed.
"""

import sys
import unittest

if sys.version_info < (3, 13):
    # Before, frozen modules were C data and not marshalled; asking for that crashes.
    raise unittest.SkipTest("cds is part of CPython 3.13")
