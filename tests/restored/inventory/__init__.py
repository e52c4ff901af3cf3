"""The facts that a process can learn about itself, as sorted lines `section.key: value`.

The same program runs plain and restored from a startup image, and both reports must be equal. The
comparison finds out which lines differ between two plain runs, so values are not changed here,
except addresses and counters. Files of /proc, options of prctl() and attributes of sys are listed
and not named here, so new ones are included automatically.
"""
