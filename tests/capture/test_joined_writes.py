"""An answer's head and body leave in one send, and a long answer still flows."""

import asyncio
from typing import Any, cast

from nilometer.capture.joined_writes import FLUSH_BYTES, JoinedWrites
from tests.capture.door import valid_body


class _Transport:
    """What a socket's transport would be told."""

    def __init__(self) -> None:
        self.sends: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sends.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str) -> str:
        return name


async def _joined() -> tuple[JoinedWrites, _Transport]:
    transport = _Transport()
    return JoinedWrites(cast("Any", transport), asyncio.get_running_loop()), transport


def test_what_is_written_in_one_turn_is_sent_at_once():
    async def check() -> None:
        joined, transport = await _joined()
        joined.write(b"head, ")
        joined.write(b"body")
        assert transport.sends == []
        await asyncio.sleep(0)
        joined.write(b"; more")
        await asyncio.sleep(0)
        assert transport.sends == [b"head, body", b"; more"]

    asyncio.run(check())


def test_a_large_body_is_passed_on_as_it_is_written():
    async def check() -> None:
        joined, transport = await _joined()
        joined.write(b"head")
        joined.write(b"x" * FLUSH_BYTES)
        assert transport.sends == [b"head" + b"x" * FLUSH_BYTES]
        await asyncio.sleep(0)
        assert len(transport.sends) == 1

    asyncio.run(check())


def test_closing_sends_what_is_pending_first():
    async def check() -> None:
        joined, transport = await _joined()
        joined.write(b"bye")
        joined.close()
        assert (transport.sends, transport.closed) == ([b"bye"], True)
        joined.write(b"late")
        await asyncio.sleep(0)
        assert transport.sends == [b"bye"]
        assert joined.get_extra_info("peername") == "peername"

    asyncio.run(check())


def test_a_small_answer_is_one_send(door, monkeypatch):
    sends: list[bytes] = []
    flush = JoinedWrites._flush

    def noted(joined: JoinedWrites) -> None:
        if joined._pending:
            sends.append(b"".join(joined._pending))
        flush(joined)

    monkeypatch.setattr(JoinedWrites, "_flush", noted)
    body = valid_body()
    with door.connect() as client:
        client.sendall(door.request_head(len(body)) + body)
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert sends == [answer]
