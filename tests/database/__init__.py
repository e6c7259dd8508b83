"""Tests of the relational engine and its migrations."""
