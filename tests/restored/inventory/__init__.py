"""What a process can learn about itself, as sorted lines `section.key: value`.

The same program runs plainly and restored from a startup image, and both say the same. What
differs between two plain runs need not be known here: whoever compares finds it out. So values are
left as they are, but for addresses and counters; and what is listed is found by listing it (files
of /proc, options of prctl(), attributes of sys), so that new things show up by themselves.
"""
