"""Programs that are restored many times.

What a module does when it is imported is in the image, `run()` comes after. All print the same in
each run.
"""
