"""What one attempt may take."""

ATTEMPT_SECONDS = 20.0
"""From the lookup of the receiver's name to the end of its answer."""

CONNECT_SECONDS = 5.0
"""For the connection alone, and for each answer on the way."""
