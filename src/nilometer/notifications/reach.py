"""Which addresses may be sent to, and the address that was looked at is the one that is used.

Who may add a channel chooses where this process connects. So nothing goes to an address that only
this machine or its network can reach, such as the cloud's metadata or a database without a
password, unless the operator named the network. A name is resolved once: were it looked up again
for the connection, it could by then lead elsewhere.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from nilometer.errors import ConfigurationError
from nilometer.notifications.failures import PermanentFailure, TemporaryFailure

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A translator's, with an IPv4 address in the last bits (RFC 6052), and what IANA has given out for
# the internet; Python calls more of the rest global than is.
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")
_PROTOCOLS = ipaddress.IPv4Network("192.0.0.0/24")
_MOST_TRIED = 3

LOOKUP_SECONDS = 10.0
"""For the addresses of a name. The system's own lookup takes as long as its resolvers let it."""
MOST_LOOKUPS = 64
"""At once, with those that nobody waits for any more."""
MOST_LOOKUPS_EACH = 4
"""Of one project; of all that is looked up for none, half of them."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect: an address that may be used. `named` is whether the operator named its
    network, and so trusts the way to it."""

    address: str
    named: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be reached: all of the public internet, and these networks. `project_id` is whose
    names are looked up, so that those that resolve slowly keep no other project waiting."""

    networks: tuple[Network, ...] = ()
    project_id: int | None = None

    @classmethod
    def parse(cls, text: str) -> Reach:
        """A list of networks, `10.0.0.0/8, fd00::/8`. Raises ConfigurationError."""
        named = [each.strip() for each in text.split(",") if each.strip()]
        try:
            return cls(tuple(ipaddress.ip_network(each) for each in named))
        except ValueError:
            raise ConfigurationError(
                "give networks such as 10.0.0.0/8, with commas between"
            ) from None

    def of(self, project_id: int) -> Reach:
        """The same, within the share of a project."""
        return Reach(self.networks, project_id)

    def may_lead_to(self, host: str) -> bool:
        """False for a host that is an address which may not be reached, in whatever way it is
        written. What a name leads to is known when it is looked up. Does not block."""
        try:
            found = socket.getaddrinfo(
                host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except (OSError, UnicodeError):
            return True
        return all(self._judged(each) is not None for each in _read(found))

    def places(self, host: str, port: int, seconds: float = LOOKUP_SECONDS) -> list[Place]:
        """The first few addresses of a host that may be reached, at least one. Blocks for the
        lookup, and no longer than so many seconds.

        Raises TemporaryFailure when the name cannot be resolved now, and PermanentFailure when no
        address that it has may be reached.
        """
        addresses = dict.fromkeys(_addresses(host, port, seconds, self.project_id))
        judged = (self._judged(each) for each in addresses)
        if found := [place for place in judged if place is not None][:_MOST_TRIED]:
            return found
        raise PermanentFailure(
            "The receiver's address is private, and the operator has not allowed it "
            "(NILOMETER_NOTIFICATION_NETWORKS).",
            code="address_refused",
        )

    def _judged(self, address: IpAddress) -> Place | None:
        real = tuple(_every(address))
        if all(self._is_named(each) for each in real):
            return Place(str(address), named=True)
        if all(map(_is_public, real)):
            return Place(str(address), named=False)
        return None

    def _is_named(self, address: IpAddress) -> bool:
        return any(address in each for each in self.networks if each.version == address.version)


PUBLIC = Reach()
"""The public internet alone."""


def _addresses(host: str, port: int, seconds: float, project_id: int | None) -> Iterable[IpAddress]:
    if (address := _address(host)) is not None:
        return [address]
    try:
        found = _looked_up(host, port, seconds, project_id)
    except (OSError, UnicodeError):
        raise TemporaryFailure(
            "The receiver's name cannot be resolved.", code="name_unknown"
        ) from None
    if found is None:
        raise TemporaryFailure("The receiver's name was not resolved in time.", code="name_unknown")
    return _read(found)


def _address(host: str) -> IpAddress | None:
    """What the host is, where it is an address as everybody writes it: there is no name to ask
    for. Of other spellings the system knows more."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _read(found: Iterable[Any]) -> Iterable[IpAddress]:
    for *_, sockaddr in found:
        # A zone ("%eth0") belongs to a link-local address, which is refused anyhow.
        yield ipaddress.ip_address(str(sockaddr[0]).partition("%")[0])


class _Lookups:
    """Places for lookups, of which a project has a few."""

    def __init__(self) -> None:
        self._under_way: Counter[int | None] = Counter()
        self._changed = threading.Condition()

    def begin(self, project_id: int | None, seconds: float) -> bool:
        """Wait for a place and take it; False where there was none in time."""
        most = MOST_LOOKUPS // 2 if project_id is None else MOST_LOOKUPS_EACH

        def is_free() -> bool:
            own = self._under_way[project_id]
            return own < most and self._under_way.total() < MOST_LOOKUPS

        with self._changed:
            if not self._changed.wait_for(is_free, seconds):
                return False
            self._under_way[project_id] += 1
            return True

    def end(self, project_id: int | None) -> None:
        """Give the place back."""
        with self._changed:
            self._under_way[project_id] -= 1
            if not self._under_way[project_id]:
                del self._under_way[project_id]
            self._changed.notify_all()


_LOOKUPS = _Lookups()


def _looked_up(host: str, port: int, seconds: float, project_id: int | None) -> list[Any] | None:
    """What the system says of a name; None where it says nothing in time. It cannot be told to
    stop, so it is asked in a thread that is left to itself then. Raises whatever asking raises."""
    until, lookups = time.monotonic() + seconds, _LOOKUPS
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    answer: Future[list[Any]] = Future()

    def ask() -> None:
        try:
            found = look_up()
        except BaseException as error:  # noqa: BLE001  (it is the caller's, in whose place this asks)
            answer.set_exception(error)
        else:
            answer.set_result(found)
        finally:
            lookups.end(project_id)

    if not lookups.begin(project_id, seconds):
        return None
    threading.Thread(target=ask, name="nilometer-lookup", daemon=True).start()
    try:
        return answer.result(max(0.0, until - time.monotonic()))
    except TimeoutError:  # the wait's; or the system's, which is an answer
        return answer.result() if answer.done() else None


def _is_public(address: IpAddress) -> bool:
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address not in _PROTOCOLS
    return address in _UNICAST or address in _TRANSLATED


def _every(address: IpAddress) -> Iterable[IpAddress]:
    """The address, or every IPv4 address that it leads to when it only wraps one."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    wrapped = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _TRANSLATED:
        wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    inner = [each for each in wrapped if each is not None]
    if address.ipv4_mapped is None:
        yield address
    yield from inner
