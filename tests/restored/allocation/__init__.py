"""Blocks of memory of all kinds. An import makes them, and a program changes them at random.

Each block has a copy of its expected content. The changes depend only on the arguments of the
program, so a plain and a restored run print the same.
"""
