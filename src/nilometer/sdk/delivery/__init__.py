"""From the caller's thread to the stores: queue, writer, lanes, spool, senders.

A call leaves an observation in a bounded queue. One thread makes metrics of them and hands them to
a lane for each store: on disk first, in memory where there is no disk. Another thread a store sends
them and lets go of what is stored. What a process leaves on disk, the next one sends.

submitted + adopted = waiting + spooled + stored + dropped, for each store, at every moment.
"""
