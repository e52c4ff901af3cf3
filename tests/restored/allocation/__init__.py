"""Blocks of memory of all kinds, made by an import, and changed at random by a program.

Each block knows what must be in it. What happens depends on numbers that the program is given, and
on nothing else: a plain run and a restored one print the same.
"""
