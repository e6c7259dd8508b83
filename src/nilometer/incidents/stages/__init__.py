"""The stages of the chain: what is done with an incident, one module a queue."""
