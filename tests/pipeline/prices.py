"""Price overrides that a test changes at will."""

from nilometer.pricing import NO_OVERRIDES, Overrides


class Prices:
    """The overrides of a project, to change at will."""

    def __init__(self) -> None:
        self.now = NO_OVERRIDES
        self.settled = 0

    def of(self, _: int) -> Overrides:
        return self.now

    def settle(self) -> None:
        self.settled += 1
