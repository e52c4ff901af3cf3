"""Looks into files of archives and images, and checks whether they are up to date."""
