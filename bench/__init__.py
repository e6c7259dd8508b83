"""Measurements, whole process, on loopback, bounded. `make bench` runs them all in one go."""
