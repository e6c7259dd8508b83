"""The doors, one module a protocol: authenticate, bound, decode, identify, append."""
