"""The real servers of the distributed profile, as plain processes on loopback.

`scripts/services` starts the ones that tests share, on the ports that the documentation names;
`tests/private_servers.py` starts one for a single test, to stop, pause and kill.
"""
