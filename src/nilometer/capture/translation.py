"""Errors of other rooms as the door says them."""

from __future__ import annotations

import logging
import traceback

from nilometer import failpoints
from nilometer.access.types import AccessUnavailable, TooManyGuesses, UnknownKey
from nilometer.blobs.types import BlobsFull, BlobsUnavailable
from nilometer.capture.authorization import unknown_key
from nilometer.capture.refusals import (
    InternalError,
    ParsingFault,
    Refusal,
    ServerBusy,
    TooBig,
    TooManyKeys,
)
from nilometer.errors import InvalidInput, Unavailable
from nilometer.log.port import RecordTooLarge

_LOGGER = logging.getLogger(__name__)


def translated(error: Exception) -> Refusal:
    """The refusal for an error that is not one; no detail of a 5xx leaves the process."""
    match error:
        case UnknownKey():
            return unknown_key()
        case RecordTooLarge():
            return TooBig(error.detail, code=error.code)
        case InvalidInput():
            return ParsingFault(error.detail, code=error.code, attr=error.attr)
        case TooManyGuesses():
            return TooManyKeys(error.retry_after)
        case AccessUnavailable():
            text = "service unavailable: keys cannot be checked now, please retry"
        case BlobsFull():
            text = "service unavailable: blob storage is full, please retry"
        case BlobsUnavailable():
            text = "service unavailable: blob storage does not answer, please retry"
        case Unavailable():
            text = "transient error, please retry"
        case failpoints.Fault():
            return ServerBusy("transient error, please retry")
        case _:
            # The message of an unforeseen error may hold what a client sent: only where it arose.
            where = "".join(traceback.format_tb(error.__traceback__))
            _LOGGER.error("capture failed with %s\n%s", type(error).__name__, where)
            return InternalError()
    return ServerBusy(text, code=error.code, retry_after=error.retry_after)
