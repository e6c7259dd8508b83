"""Numbered migrations of the store: SQL files, run once each, in order (see `migrate`)."""
