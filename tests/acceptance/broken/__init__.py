"""Builds that are broken on purpose, one thing at a time, to see the suite notice."""
