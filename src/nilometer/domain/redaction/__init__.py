"""Redaction: what a project keeps out of everything that is stored, as data and pure functions.

`rules` is what a project sets, `reading` takes it from JSON, `redactor` carries it out.
"""
