"""Archives of ready-made code objects, mapped and run in place.

`python -m cds dump LIST ARCHIVE` writes an archive; `python -X cds=ARCHIVE`
uses it; `python -m cds --help` tells the rest.  This module imports nothing,
so that importing it costs nothing.
"""
