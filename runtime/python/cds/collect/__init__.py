"""What goes into an archive: modules are found and read, and none is run."""
