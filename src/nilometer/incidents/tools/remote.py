"""Tools that go to an address: one request, and what its answer says became of it.

The rule of all of it: what nobody knows is `Unknown`. Nothing was done where the request was not
written, or where the receiver says so; it was done where the receiver says so; and in between,
nothing is repeated unless the receiver has said that it takes the same key once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from nilometer import __version__
from nilometer.domain import clock, json_text
from nilometer.errors import InvalidInput
from nilometer.incidents.tools import remote_config, schemas, templates
from nilometer.incidents.tools.call import (
    TIMED_OUT,
    ErrorClass,
    Failed,
    Json,
    Outcome,
    Succeeded,
    ToolCall,
    Unknown,
)
from nilometer.incidents.tools.keeping import kept, masked
from nilometer.incidents.tools.remote_config import RemoteConfig
from nilometer.incidents.tools.resolving import SIGNING, Resolved
from nilometer.notifications import signature
from nilometer.notifications.channels.http_post import retry_after
from nilometer.notifications.exchange import Answer, Request, Unanswered, exchange, places_of
from nilometer.notifications.failures import PermanentFailure, TemporaryFailure
from nilometer.notifications.reach import Reach

_AGAIN_LATER: Final = frozenset({408, 425, 429})
# A gateway answers these when it does not know either: the receiver may have done it.
_OF_GATEWAYS: Final = frozenset({502, 504})
# With a key: another request under it is under way (draft-ietf-httpapi-idempotency-key-header).
_UNDER_WAY = 409
_NOT_DONE: Final = frozenset({404, 410})
# They say nothing of what an earlier request did.
_NOT_ASKED: Final = frozenset({401, 403, 407})


class Send(Protocol):
    """`nilometer.notifications.exchange.exchange`."""

    def __call__(self, request: Request, reach: Reach, *, seconds: float, most: int) -> Answer:
        """Send it once."""
        ...


class Remote:
    """Calls HTTP tools and webhooks. Blocks for as long as the tool's timeout; safe between
    threads; holds no connection."""

    def __init__(
        self, reach: Reach, *, send: Send = exchange, now: Callable[[], datetime] = clock.now
    ) -> None:
        self._reach = reach
        self._send = send
        self._now = now

    def perform(self, call: ToolCall, tool: Resolved) -> Outcome:
        """Send the request, once."""
        config = _config(tool)
        if isinstance(config, Failed):
            return config
        try:
            request = self._request(call, tool, config)
        except InvalidInput as error:
            return _refused(error)
        return self._asked(request, call, tool, config)

    def reconcile(self, call: ToolCall, tool: Resolved) -> Outcome:
        """Find out what became of a request whose answer nobody has, or send it again where that is
        safe. Never `Failed` for now: that would say of the earlier request what nobody knows."""
        config = _config(tool)
        if isinstance(config, Failed):
            return _unknown(config, again=False)
        if config.reconcile is not None:
            return self._looked_up(call, tool, config, config.reconcile.url)
        late = call.is_late(self._now())
        if late and config.is_safe:
            return TIMED_OUT
        if config.reconcilable and not late:
            return self._repeated(call, tool, config)
        return Unknown(
            "outcome_unknown",
            "What became of the request is not known, and "
            + ("the step's time is over." if late else "the tool has no way to find out."),
            reconcilable=False,
            asked=False,
        )

    def preview(self, call: ToolCall, tool: Resolved) -> Json | Failed:
        """What would be sent, without secrets; nothing is. The host is looked up."""
        config = _config(tool)
        if isinstance(config, Failed):
            return config
        try:
            request = self._request(call, tool, config)
            places_of(request.url, self._reach.of(call.project_id))
        except InvalidInput as error:
            return _refused(error)
        except (PermanentFailure, TemporaryFailure) as error:
            return _not_sent(error)
        body = None if request.body is None else json.loads(request.body)
        headers = {name: masked(tool, value) for name, value in request.headers.items()}
        return {
            "method": request.method,
            "url": masked(tool, str(request.url)),
            "headers": {name: value for name, value in headers.items() if name not in _SIGNATURE},
            "signed": config.signed,
            "body": body,
        }

    def _request(self, call: ToolCall, tool: Resolved, config: RemoteConfig) -> Request:
        given = dict(call.input)
        body = _body(call, tool, config) if _has_body(config) else None
        headers = {
            "Accept": "application/json",
            **({"Content-Type": "application/json"} if body is not None else {}),
            **_headers(call, tool, config),
        }
        if config.signed and body is not None:
            signing = tool.secrets.get(SIGNING, ())
            if not signing:
                raise InvalidInput("the tool's secret to sign with is not set", attr="secrets")
            seconds = int(self._now().timestamp())
            headers |= signature.headers(call.execution_id, seconds, body, signing)
        url = templates.url(config.url, call, given, tool.secrets)
        return Request(config.method, url, headers, body)

    def _asked(
        self, request: Request, call: ToolCall, tool: Resolved, config: RemoteConfig
    ) -> Outcome:
        answer = self._answer(request, call, config)
        if isinstance(answer, Unanswered):
            if config.is_safe or not answer.sent:
                return _not_sent(answer)
            return Unknown(answer.code, answer.detail, config.reconcilable, asked=True)
        if isinstance(answer, Failed):
            return answer
        return _judged(answer, config) or _output(answer, tool, config)

    def _answer(
        self, request: Request, call: ToolCall, config: RemoteConfig
    ) -> Answer | Unanswered | Failed:
        try:
            return self._send(
                request,
                self._reach.of(call.project_id),
                seconds=config.timeout_seconds,
                most=config.max_response_bytes,
            )
        except Unanswered as error:
            return error
        except (TemporaryFailure, PermanentFailure) as error:
            return _not_sent(error)

    def _looked_up(self, call: ToolCall, tool: Resolved, config: RemoteConfig, at: str) -> Outcome:
        try:
            url = templates.url(at, call, dict(call.input), tool.secrets)
            headers = {"Accept": "application/json", **_headers(call, tool, config)}
        except InvalidInput as error:
            return _unknown(_refused(error), again=False)
        answer = self._answer(Request("GET", url, headers), call, config)
        if isinstance(answer, Unanswered):
            return Unknown(answer.code, answer.detail, reconcilable=True, asked=True)
        if isinstance(answer, Failed):
            return _unknown(answer, again=answer.is_transient)
        if answer.status in _NOT_DONE:
            told = "The receiver says that it was not done."
            return Failed("not_done", told, ErrorClass.TRANSIENT, asked=True)
        wrong = _judged(answer, config)
        if wrong is None:
            return _output(answer, tool, config)
        return _unknown(wrong, again=isinstance(wrong, Unknown) or wrong.is_transient)

    def _repeated(self, call: ToolCall, tool: Resolved, config: RemoteConfig) -> Outcome:
        outcome = self.perform(call, tool)
        if not isinstance(outcome, Failed) or config.is_safe:
            return outcome
        if outcome.is_transient:
            return _unknown(outcome, again=True)
        answered = outcome.code.startswith("http_")
        known = answered and int(outcome.code.removeprefix("http_")) not in _NOT_ASKED
        return outcome if known or outcome.code in _OF_ANSWERS else _unknown(outcome, again=False)


_SIGNATURE = frozenset({"webhook-signature", "webhook-timestamp"})
_OF_ANSWERS = frozenset({"answer_too_large", "output_invalid"})


def _config(tool: Resolved) -> RemoteConfig | Failed:
    try:
        return remote_config.read(tool.kind, tool.tool.config)
    except InvalidInput:
        return Failed(
            "config_unreadable",
            "This release cannot read the tool's configuration.",
            ErrorClass.PERMANENT,
            asked=False,
        )


def _has_body(config: RemoteConfig) -> bool:
    return config.body == "input" and not config.is_safe


def _headers(call: ToolCall, tool: Resolved, config: RemoteConfig) -> dict[str, str]:
    given = {name: templates.header(text, tool.secrets) for name, text in config.headers.items()}
    ours = {
        "Accept-Encoding": "identity",
        "User-Agent": f"nilometer/{__version__}",
        config.idempotency_header: call.execution_id,
    }
    if call.traceparent is not None:
        ours["traceparent"] = call.traceparent
    taken = {name.lower() for name in given}
    return {**{name: value for name, value in ours.items() if name.lower() not in taken}, **given}


def _body(call: ToolCall, tool: Resolved, config: RemoteConfig) -> bytes:
    """The same bytes at every attempt: a receiver that honours the key may compare them."""
    told: Mapping[str, Any] = call.input
    if tool.tool.kind == "webhook":
        began = call.began_at
        told = {
            "type": config.event_type,
            "timestamp": None if began is None else began.isoformat().replace("+00:00", "Z"),
            "data": {
                "project_id": call.project_id,
                "incident_id": call.incident_id,
                "execution_id": call.execution_id,
                "tool": call.tool,
                "input": dict(call.input),
            },
        }
    try:
        return json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # half of a surrogate pair, or NaN
        raise InvalidInput("the input cannot be written as JSON", attr="input") from None


def _judged(answer: Answer, config: RemoteConfig) -> Failed | Unknown | None:
    """What an answer says, None for success."""
    status = answer.status
    if 200 <= status < 300:
        return None
    code, detail = f"http_{status}", f"The receiver answered {status}."
    if status in _OF_GATEWAYS and not config.is_safe:
        return Unknown(code, detail, config.reconcilable, asked=True)
    later = status >= 500 or status in _AGAIN_LATER
    if later or (status == _UNDER_WAY and config.honours_idempotency_key):
        wait = retry_after(answer.headers.get("retry-after"))
        return Failed(code, detail, ErrorClass.TRANSIENT, wait, asked=True)
    if 300 <= status < 400:
        detail = f"The receiver answered {status}; it leads elsewhere, and no redirect is followed."
    return Failed(code, detail, ErrorClass.PERMANENT, asked=True)


def _output(answer: Answer, tool: Resolved, config: RemoteConfig) -> Outcome:
    """What was given back, if it is what the tool says."""
    if not answer.whole and tool.kind.value == "http":
        return Failed(
            "answer_too_large",
            f"It was done, and the answer has more than {config.max_response_bytes} bytes.",
            ErrorClass.PERMANENT,
            asked=True,
        )
    body = _parsed(answer.body) if answer.whole else None
    schema = tool.tool.output_schema
    wrong = None if schema is None else schemas.objection(schema, body)
    if wrong is not None:
        return Failed(
            "output_invalid",
            f"It was done, and the answer's body {wrong} the tool's output schema.",
            ErrorClass.PERMANENT,
            asked=True,
        )
    return Succeeded(kept(tool, {"status": answer.status, "body": body}))


def _parsed(body: bytes) -> Any:
    """JSON, or the text that it is; None for nothing. A number that no double holds was never
    one of JSON: read as infinity, it could not be written again."""
    if not body:
        return None
    try:
        value = json_text.loads(body)
        json.dumps(value, allow_nan=False)
    except ValueError:
        return body.decode("utf-8", "replace")
    return value


def _refused(error: InvalidInput) -> Failed:
    told = f"Nothing was sent: {error.detail}."
    return Failed("input_invalid", told, ErrorClass.PERMANENT, asked=False)


def _not_sent(error: TemporaryFailure | PermanentFailure) -> Failed:
    if isinstance(error, PermanentFailure):  # we do not go there
        return Failed(error.code, error.detail, ErrorClass.PERMANENT, asked=False)
    return Failed(error.code, error.detail, ErrorClass.TRANSIENT, error.retry_after, asked=True)


def _unknown(told: Failed | Unknown, *, again: bool) -> Unknown:
    return Unknown(
        told.code,
        f"What became of an earlier request is not known yet. {told.detail}",
        reconcilable=again,
        asked=told.asked,
    )
