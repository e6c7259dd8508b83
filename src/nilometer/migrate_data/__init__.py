"""Moves everything of an embedded deployment's data directory to the servers of a distributed one.

In this order: blobs, the store's tables, the log's unread records, the database's rows. Each part
can tell from the target alone how far it has come, so a run that was cut off at any instant is
finished by the next one, and a run that has nothing to do changes nothing. Until all of it is
there and equal, the target's database says so and no process serves it (`claim`). The source is
only read.
"""
