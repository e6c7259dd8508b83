"""Queries of the table, page by page: several at once, and never far ahead of who reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from nilometer.dynamodb.schema import Item

Asked = Mapping[str, Any]
"""A query, without the table's name."""

AT_ONCE = 8
AHEAD = 16
"""Pages that are asked for before who reads them comes to them. DynamoDB reads 1 MB for each."""


class Pages:
    """Of one table. Safe to use from several threads; `close` it."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._threads = ThreadPoolExecutor(AT_ONCE, "nilometer-dynamodb-reader")

    def close(self) -> None:
        """End its threads."""
        self._threads.shutdown()

    def items(self, asked: Asked) -> Iterator[Item]:
        """The items of a query, in their order."""
        following: Asked | None = asked
        while following is not None:
            answer = self._page(following)
            yield from answer["Items"]
            following = _following(following, answer)

    def each(self, several: Iterable[Asked]) -> Iterator[Item]:
        """The items of several queries, not in the order of these. A query's next page is asked
        for when its last one is read, so that no more are kept than `AHEAD`."""
        left = iter(several)
        running = deque((asked, self._submit(asked)) for asked in islice(left, AHEAD))
        try:
            while running:
                asked, page = running.popleft()
                answer = page.result()
                if following := _following(asked, answer) or next(left, None):
                    running.append((following, self._submit(following)))
                yield from answer["Items"]
        finally:
            for _, page in running:
                page.cancel()

    def wholes(self, several: Iterable[Asked]) -> Iterator[list[Item]]:
        """All items of each query, for queries of few."""
        return self._threads.map(self._whole, several)

    def _whole(self, asked: Asked) -> list[Item]:
        return list(self.items(asked))

    def _submit(self, asked: Asked) -> Any:
        return self._threads.submit(self._page, asked)

    def _page(self, asked: Asked) -> Any:
        return self._dynamodb.query(TableName=self._table, **asked)


def _following(asked: Asked, answer: Mapping[str, Any]) -> Asked | None:
    """The query of the page after this answer to another one; None after the last."""
    if "LastEvaluatedKey" not in answer:
        return None
    return {**asked, "ExclusiveStartKey": answer["LastEvaluatedKey"]}
