"""Project ids that no two tests of a process share: they share one store."""

from itertools import count

_projects = count(1)


def new_project_id() -> int:
    """A project that nothing else in this process has; for each example of a property test."""
    return next(_projects)
