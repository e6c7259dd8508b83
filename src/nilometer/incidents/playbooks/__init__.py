"""Playbooks: which one fits, what its next step is, and what that step is given. All of it is pure.

`matching` chooses, `machine` says what comes next after any recorded results, `templates` fills in.
"""
