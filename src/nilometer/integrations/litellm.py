"""LiteLLM's callback, for its proxy and its SDK: every call, answered, failed or refused, once.

    litellm_settings:
      callbacks: ["nilometer.integrations.litellm.callback"]

    litellm.callbacks = [callback]

Calls go to the server of `NILOMETER_URL` (with `NILOMETER_API_KEY`, a project key), into files in
`LITELLM_LOG_DIR`, or both. docs/litellm.md tells of it. Only LiteLLM loads this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nilometer.integrations.litellm_traces import Traces, TraceStats

if TYPE_CHECKING:
    CustomLogger = object  # Nilometer is developed, and used by most, without LiteLLM
else:
    from litellm.integrations.custom_logger import CustomLogger


class NilometerLogger(CustomLogger):
    """A callback of LiteLLM. What is not given, the environment says.

    LiteLLM calls with the names of the parameters. It calls the asynchronous pair in its proxy and
    for asynchronous calls, the other pair for the others, and in some versions both.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        api_key: str | None = None,
        log_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        self._traces = Traces(url, api_key, log_dir)

    def log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """A call was answered."""
        del response_obj, start_time, end_time
        self._traces.take(kwargs)

    def log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """A call failed, or was refused."""
        del response_obj, start_time, end_time
        self._traces.take(kwargs)

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """A call was answered."""
        del response_obj, start_time, end_time
        self._traces.take(kwargs)

    async def async_log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """A call failed, or was refused."""
        del response_obj, start_time, end_time
        self._traces.take(kwargs)

    def stats(self) -> TraceStats:
        """What became of the calls until now."""
        return self._traces.stats()

    def flush(self, timeout: float = 5.0) -> bool:
        """Deliver what there is, within so many seconds: True when nothing is left behind."""
        return self._traces.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Deliver, and end; what is left is on disk for the next process."""
        return self._traces.close(timeout)


callback = NilometerLogger()
