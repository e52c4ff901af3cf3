"""Prints where pyperformance keeps its benchmarks."""

import os

import pyperformance

print(os.path.join(os.path.dirname(pyperformance.__file__), "data-files", "benchmarks"))
