"""How many connections may be open, and which one goes when one more comes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from nilometer.observability.metrics import CONNECTIONS_OVER_LIMIT


class Connection(Protocol):
    """What the limit asks of a connection."""

    def give_way(self) -> None:
        """Close at once: no request of this connection is being answered."""
        ...


class ConnectionLimit:
    """At most `limit` open connections of one server. Used from one event loop; no locks.

    Beyond it, the connection that has been without a request for longest is closed for the new
    one: a crowd of idle connections, which takes no key, must not shut clients out. Where every
    connection has a request, the new one is refused.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: set[Connection] = set()
        self._without_request: OrderedDict[Connection, None] = OrderedDict()
        self._closed_idle = CONNECTIONS_OVER_LIMIT.labels("idle_closed")
        self._refused = CONNECTIONS_OVER_LIMIT.labels("refused")

    def admit(self, connection: Connection) -> bool:
        """Take in a new connection, which has no request yet; False when it must be refused."""
        if len(self._open) >= self.limit and not self._make_room():
            self._refused.inc()
            return False
        self._open.add(connection)
        self._without_request[connection] = None
        return True

    def begin_request(self, connection: Connection) -> None:
        """The head of a request has arrived."""
        self._without_request.pop(connection, None)

    def end_request(self, connection: Connection) -> None:
        """Every request so far has been answered."""
        if connection in self._open:
            self._without_request[connection] = None
            self._without_request.move_to_end(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._open.discard(connection)
        self._without_request.pop(connection, None)

    def _make_room(self) -> bool:
        if not self._without_request:
            return False
        longest, _ = self._without_request.popitem(last=False)
        self._open.discard(longest)
        self._closed_idle.inc()
        longest.give_way()
        return True
