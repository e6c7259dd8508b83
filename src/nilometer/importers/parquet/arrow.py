"""Arrow, loaded when it is needed: the `parquet` extra brings it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from nilometer.errors import ConfigurationError


def arrow() -> Any:
    """`pyarrow`. Raises ConfigurationError where it is not installed."""
    return _module("pyarrow")


def compute() -> Any:
    """`pyarrow.compute`."""
    return _module("pyarrow.compute")


def parquet() -> Any:
    """`pyarrow.parquet`."""
    return _module("pyarrow.parquet")


@cache
def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ConfigurationError(
            'Parquet needs pyarrow: pip install "nilometer[parquet]"'
        ) from None
