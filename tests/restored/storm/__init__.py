"""Programs that are restored many times.

The import of a module is in the image. `run()` is called after the freeze. Each program prints the
same in each run.
"""
