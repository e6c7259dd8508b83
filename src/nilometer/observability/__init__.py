"""Nilometer's own metrics, logs and traces."""
