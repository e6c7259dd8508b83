"""The order in which claimed tasks are worked on: who has few does not wait for who has many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nilometer.workflows.task import Task

MANY = 8
"""Of one project in a batch. With fewer a second transaction would take longer than they do."""


def apart(tasks: Sequence[Task]) -> list[list[Task]]:
    """A claimed batch, in parts that are worked on one after the other. Claims are fair, and yet
    who floods a queue has most of a batch: what others have in it comes first, by itself."""
    counts = Counter(task.project_id for task in tasks)
    most = max(counts.values(), default=0)
    few = [task for task in tasks if counts[task.project_id] <= most // 2]
    if most < MANY or not few:
        return [list(tasks)]
    return [few, [task for task in tasks if counts[task.project_id] > most // 2]]
