"""How many request bytes may be in memory at once, overall and for one project.

256 uploads of 25 MiB must not become 6 GiB: a request reserves what it declares before a byte of
its body is kept, and more as it turns out larger (chunked or compressed bodies).
"""

from __future__ import annotations

from types import TracebackType

from nilometer.capture.refusals import ProjectBusy, ServerBusy

UNKNOWN_PROJECT = 0
"""Whose room a request takes while its key, which is in its body, is not known yet."""


class Admission:
    """The budget of bytes in flight. Used from one event loop; no locks.

    `total` is the whole budget in bytes and `share` the fraction that one project may take.
    """

    def __init__(self, total: int, share: float) -> None:
        self._total = total
        self._project_total = int(total * share)
        self._by_project: dict[int, int] = {}
        self.in_flight = 0

    def reserve(self, project_id: int, size: int) -> Reservation:
        """Room for a request of `size` bytes, released when the returned context ends.

        Raises ServerBusy (503) when the whole budget is taken and ProjectBusy (429) when the
        project's share is.
        """
        self.take(project_id, size)
        return Reservation(self, project_id, size)

    def take(self, project_id: int, size: int) -> None:
        """Take `size` bytes, or raise and take nothing."""
        if self.in_flight + size > self._total:
            raise _overloaded()
        taken = self._by_project.get(project_id, 0) + size
        self._check_share(project_id, taken)
        self._by_project[project_id] = taken
        self.in_flight += size

    def move(self, project_id: int, size: int) -> None:
        """Count `size` bytes of no known project as this project's. Raises ProjectBusy."""
        taken = self._by_project.get(project_id, 0) + size
        self._check_share(project_id, taken)
        self.give_back(UNKNOWN_PROJECT, size)
        self._by_project[project_id] = taken
        self.in_flight += size

    def give_back(self, project_id: int, size: int) -> None:
        """Free `size` bytes that were taken."""
        self.in_flight -= size
        left = self._by_project.get(project_id, 0) - size
        if left:
            self._by_project[project_id] = left
        else:
            self._by_project.pop(project_id, None)

    def _check_share(self, project_id: int, taken: int) -> None:
        if taken > self._project_total:
            raise _overloaded() if project_id == UNKNOWN_PROJECT else ProjectBusy


class Reservation:
    """One request's room, as a context manager."""

    __slots__ = ("_admission", "_project_id", "size")

    def __init__(self, admission: Admission, project_id: int, size: int) -> None:
        self._admission = admission
        self._project_id = project_id
        self.size = size

    def grow(self, size: int) -> None:
        """Make sure that the room is at least `size` bytes. Raises as `Admission.reserve` does."""
        if size > self.size:
            self._admission.take(self._project_id, size - self.size)
            self.size = size

    def belongs_to(self, project_id: int) -> None:
        """The key is known now. Raises ProjectBusy, and the room stays what it was."""
        self._admission.move(project_id, self.size)
        self._project_id = project_id

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._admission.give_back(self._project_id, self.size)


def _overloaded() -> ServerBusy:
    return ServerBusy(
        "service unavailable: too many requests in flight, please retry", code="overloaded"
    )
