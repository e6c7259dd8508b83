"""Nilometer: capture, keep, price and explain every call to a language model.

Importing this package loads nothing else: each public name is resolved on first use.
"""

__version__ = "0.1.0"
