"""Chooses the profile and wires it."""
