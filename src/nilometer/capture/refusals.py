"""Why a request is refused, as types: status, text and machine-readable code.

The texts are those of the capture contract (section 2): a prefix per kind, then the detail.
"""

from __future__ import annotations

from nilometer.errors import NilometerError


class Refusal(NilometerError):
    """A request that gets no 2xx. `status` and `kind` (the `type` of the JSON form) belong to the
    class; `code` names the reason and is one of a fixed set, never made from input.

    `retry_after` is in seconds, None when the same request would fail again. With `close` the
    connection cannot be used again.
    """

    status = 400
    kind = "validation_error"
    code = "invalid_request"
    prefix = ""
    retry_after: int | None = None
    close = False

    @property
    def text(self) -> str:
        """The plain-text body."""
        return self.prefix + self.detail


class DecodingFault(Refusal):
    """The bytes are not what their headers say: compression, content type, boundary, multipart."""

    code = "invalid_encoding"
    prefix = "failed to decode request: "


class BoundaryCollision(DecodingFault):
    """A delimiter turned up inside a part: the boundary occurs in the content."""

    code = "boundary_collision"


class ParsingFault(Refusal):
    """The parts were read, and are not an acceptable event."""

    code = "invalid_event"
    prefix = "failed to parse request: "


class EmptyPayload(Refusal):
    """No body at all."""

    code = "empty_payload"

    def __init__(self) -> None:
        super().__init__("request missing data payload")


class InvalidEvent(Refusal):
    """An event of a batch is not one; the contract's text has no prefix."""

    code = "invalid_event"


class TooBig(Refusal):
    """A size limit of section 3 is passed."""

    status = 413
    kind = "invalid_request"
    code = "payload_too_large"
    prefix = "maximum event size exceeded: "


class NotAuthenticated(Refusal):
    """No key, a key of the wrong shape, or a key that may not capture."""

    status = 401
    kind = "authentication_error"
    code = "authentication_failed"


class MissingKey(NotAuthenticated):
    """No `Authorization: Bearer` header."""

    code = "not_authenticated"

    def __init__(self) -> None:
        super().__init__("event submitted without an api_key")


class InconsistentKeys(NotAuthenticated):
    """The events of one request carry different keys."""

    def __init__(self) -> None:
        super().__init__("batch submitted with inconsistent api_key values")


class InvalidKey(NotAuthenticated):
    """The key's shape is wrong or nobody has it; `detail` says which shape rule, never the key."""

    prefix = "API key is not valid: "


class UnsupportedMediaType(Refusal):
    """The body is of a type that the protocol does not have."""

    status = 415
    kind = "invalid_request"
    code = "unsupported_content_type"


class MethodNotAllowed(Refusal):
    """Not a method that captures; `allow` lists those of the path."""

    status = 405
    kind = "invalid_request"
    code = "method_not_allowed"

    def __init__(self, allow: str = "POST, OPTIONS") -> None:
        super().__init__("use POST to send an event")
        self.allow = allow


class BodyTimeout(Refusal):
    """The client stopped sending, or sent for too long."""

    status = 408
    kind = "invalid_request"
    code = "request_timeout"
    close = True

    def __init__(self) -> None:
        super().__init__("client stopped sending data")


class OverQuota(Refusal):
    """The project's configuration says that it has used up its quota."""

    status = 429
    kind = "throttled_error"
    code = "over_quota"
    retry_after = 60

    def __init__(self) -> None:
        super().__init__("billing limit reached")


class ProjectBusy(Refusal):
    """The project's share of the bytes in flight is taken."""

    status = 429
    kind = "throttled_error"
    code = "rate_limited"
    retry_after = 1

    def __init__(self) -> None:
        super().__init__("rate limited")


class TooManyKeys(Refusal):
    """Too many keys that do not exist came from this address; this one was not looked up."""

    status = 429
    kind = "throttled_error"
    code = "throttled"

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many API keys that do not exist came from this address")
        self.retry_after = retry_after


class ServerBusy(Refusal):
    """Something that is needed is full or down; nothing was stored. No detail of what is inside."""

    status = 503
    kind = "server_error"
    code = "unavailable"

    def __init__(self, detail: str, *, code: str = "unavailable", retry_after: int = 1) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class InternalError(Refusal):
    """A defect of ours."""

    status = 500
    kind = "server_error"
    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("internal server error")


class Dropped(Exception):
    """Not a refusal: the project's rules drop this event, and the client is told 200."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete; nobody to answer."""
