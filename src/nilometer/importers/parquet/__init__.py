"""Calls as Parquet files, by repository and day:

    DIR/repo=acme%2Friver/day=2026-11-01/calls.parquet
    DIR/repo=__HIVE_DEFAULT_PARTITION__/day=…/calls.parquet     of no repository

That is Hive's layout, so DuckDB, Polars and Arrow read the folder as one table that has the columns
`repo` and `day` besides those of the files. A file is replaced by a rename: who reads sees the old
one or the new one, whole. Writers of a folder take turns by a lock that the kernel lets go of when
a process ends, however it ends.
"""
