"""The cache of a user: what is in it, and how large it may become.

runtime/startup-image/src/cache.rs says where it is and what an entry is called.
"""

# The value of `-X` that makes a process use the cache.
OPTION = "cds=auto"
