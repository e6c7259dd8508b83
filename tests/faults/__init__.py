"""Faults on the real servers: each taken away from running processes, and everything counted."""
