"""Trace files: from bytes on a disk to calls, by what they say, without a server.

A file is read in chunks (`reading`), a chunk becomes calls and rejected records (`parsing`), and
one module a format (`formats/`) knows what a record of it means.
"""
