"""ClickHouse's HTTP interface over ClickHouse's own engine (chDB), for tests of the network store.

No ClickHouse server can be had where these tests run. This process answers as one does in what
clickhouse-connect and Nilometer use: settings and parameters, formats, compression both ways,
sessions, users, summaries, error codes, the limits of form fields. Its data is on disk and is there
after a restart or a kill.

What it does not prove: replication, Keeper, ON CLUSTER, quorums, real GRANTs, row policies and
quotas (the engine in process has none: `users` only tells who may read, write and define), the
native protocol, and how a real server behaves under load. It buffers what it answers.
"""
