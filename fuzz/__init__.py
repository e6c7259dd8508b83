"""Fuzzers of everything that reads bytes from strangers; `make fuzz` runs each for a while."""
