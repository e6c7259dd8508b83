"""What the clients raise in place of sending."""


class Refused(Exception):
    """This would not only have read, or not only the one team. No byte of it was sent."""
