"""Nilometer's own actions: what a playbook can do without asking anybody outside."""
