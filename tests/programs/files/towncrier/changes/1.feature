A new thing.
