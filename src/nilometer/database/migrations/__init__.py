"""Migrations of the relational database, run by nilometer.database.migrate."""
