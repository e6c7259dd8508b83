"""Notifications: what is told to people and machines outside, and how it surely gets there.

`notification` and `channels` need no database, so that a Lambda sends through them; `outbox` keeps
what is to be sent in the transaction that decided it, and `deliverer` sends it.
"""
