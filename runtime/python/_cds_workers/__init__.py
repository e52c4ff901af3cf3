"""The start method "image" of `multiprocessing`: workers are restored from an image.

A spawned child reads from its parent which process it is, and then imports the main module of the
parent (Lib/multiprocessing/spawn.py).  A worker of this method imports the main module first.
What all workers of a program have in common is on their command line, so they are one program of
the cache: from the third start on, a worker is restored from an image of these imports.

This package is not a part of `cds`, because the code that watches programs while images are taken
ignores what `cds` does.
"""
