"""Frozen nouns and pure rules; no I/O."""
