"""The packs that ship with Nilometer, as data."""
