"""Print the directory of pyperformance's benchmarks."""

import os

import pyperformance

print(os.path.join(os.path.dirname(pyperformance.__file__), "data-files", "benchmarks"))
