"""Tests of accounts, keys and the keyring."""
