"""Tests of Nilometer, by room."""
