"""Management and read HTTP; no rules."""
