"""Generators in a context: their steps run in it, and what consumes them does not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager
from typing import Any


def drive(
    steps: Generator[Any, Any, Any], block: AbstractContextManager[Any]
) -> Generator[Any, Any, Any]:
    """The generator, each step of it in the block; values, errors and its end pass through."""
    try:
        with block:
            yielded = next(steps)
        while True:
            try:
                sent = yield yielded
            except GeneratorExit:
                with block:
                    steps.close()
                raise
            except BaseException as error:  # noqa: BLE001  (the consumer's, thrown in)
                with block:
                    yielded = steps.throw(error)
            else:
                with block:
                    yielded = steps.send(sent)
    except StopIteration as end:
        return end.value


async def drive_async(
    steps: AsyncGenerator[Any, Any], block: AbstractContextManager[Any]
) -> AsyncGenerator[Any, Any]:
    """The same for an asynchronous generator."""
    try:
        with block:
            yielded = await anext(steps)
        while True:
            try:
                sent = yield yielded
            except GeneratorExit:
                with block:
                    await steps.aclose()
                raise
            except BaseException as error:  # noqa: BLE001  (the consumer's, thrown in)
                with block:
                    yielded = await steps.athrow(error)
            else:
                with block:
                    yielded = await steps.asend(sent)
    except StopAsyncIteration:
        return
