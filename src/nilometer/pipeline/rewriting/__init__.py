"""Passes over what is stored: price calls again, map events again."""
