"""The interface of PyPI's code-data-share 0.1.0."""
