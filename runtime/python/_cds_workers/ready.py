"""Imported by a worker when it has imported the main module of its parent.

An image is taken at the end of an import.  This import is the last one before the worker asks which
process it is.
"""
