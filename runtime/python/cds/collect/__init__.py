"""Finds and reads the modules that go into an archive, and runs none of them."""
