"""Durable tasks in the database: claimed under a lease, worked in batches, retried, dead-lettered.

A task belongs to a project, waits in a queue for one stage, and stands in a lane. Of one lane one
task is worked at a time, the lowest sequence first, over any number of processes. A stage's effects
and the end of its tasks are one transaction, so that each has effect once.
"""
