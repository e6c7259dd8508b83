"""Tools: what an incident's playbook can do, from a call over HTTP to stopping a budget."""
