"""Makes a program from a seed: imports mixed with changes, looks and effects."""
