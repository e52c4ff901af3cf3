"""Run a program of the package `storm`: `run.py NAME`."""

import importlib
import sys

importlib.import_module(f"storm.{sys.argv[1]}").run()
