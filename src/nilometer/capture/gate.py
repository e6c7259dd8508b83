"""What every door does with a request: whose it is, how much room it takes, its body."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nilometer.access.keyring import Keyring
from nilometer.access.types import CaptureMode, ProjectConfig
from nilometer.capture.admission import Admission, Reservation
from nilometer.capture.answers import Answer
from nilometer.capture.asgi import Receive, Scope
from nilometer.capture.authorization import capturing_project
from nilometer.capture.decompression import Decoder
from nilometer.capture.off_loop import OffLoop
from nilometer.capture.patience import Patience
from nilometer.capture.provenance import client_address
from nilometer.capture.recorder import Recorder
from nilometer.capture.refusals import Dropped, OverQuota, TooBig
from nilometer.capture.request_body import BodyLimits, read_body
from nilometer.capture.request_head import RequestHead
from nilometer.settings import Settings


class Door(Protocol):
    """One protocol. `name` labels its metrics; `allow` lists its methods, as a header does."""

    name: str
    allow: str
    paths: frozenset[str]

    async def capture(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        """The answer to a request that was accepted. Raises Refusal, Dropped, ClientGone, and the
        errors of the rooms that it needs; whoever calls it answers those (`refused`)."""
        ...

    def dropped(self) -> Answer:
        """What the client is told when the project's rules drop what it sent."""
        ...

    def accepted_form(self, headers: dict[bytes, bytes]) -> bytes | None:
        """The media types that a refusal may have, as an `Accept` header lists them."""
        ...


def micros_now() -> int:
    """The time in microseconds since the epoch."""
    return time.time_ns() // 1000


@dataclass(slots=True)
class Gate:
    """What the doors share. For one event loop."""

    keyring: Keyring
    recorder: Recorder
    admission: Admission
    settings: Settings
    clock: Callable[[], int]
    patience: Patience
    off_loop: OffLoop

    def address(self, scope: Scope) -> str:
        """The client's address."""
        forwarded: list[bytes] = []
        trusted = self.settings.trusted_proxies
        if trusted:
            forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return client_address(scope.get("client"), forwarded, trusted)

    async def project(self, token: str, scope: Scope) -> ProjectConfig:
        """The project that a token captures into. Raises what the keyring raises."""
        return capturing_project(await self.keyring.admit(token, self.address(scope)))

    def body_limits(self, wire: int, decoded: int | None = None) -> BodyLimits:
        """Limits in bytes, with the times of the settings."""
        settings = self.settings
        return BodyLimits(wire, settings.body_idle_timeout, settings.body_timeout, decoded)

    async def read(
        self,
        request: RequestHead,
        receive: Receive,
        consume: Callable[[bytes], None],
        reservation: Reservation,
        *,
        decoder: Decoder | None,
        limits: BodyLimits,
    ) -> None:
        """Pass the decoded body to `consume` as it arrives. Raises as `read_body`."""
        await read_body(
            receive,
            consume,
            decoder=decoder,
            limits=limits,
            patience=self.patience,
            declared=request.declared,
            hold=reservation.grow,
        )


def check_declared(request: RequestHead, limits: BodyLimits) -> None:
    """Refuse a body that announces to be too large, before anything else is done for it."""
    if request.declared is not None and request.declared > limits.size:
        raise TooBig(f"request body exceeds maximum allowed size ({limits.size} bytes)")


def check_mode(project: ProjectConfig) -> None:
    """The project's own rule for everything that is sent to it. Raises Dropped and OverQuota."""
    if project.capture is CaptureMode.DROP:
        raise Dropped
    if project.capture is CaptureMode.OVER_QUOTA:
        raise OverQuota
