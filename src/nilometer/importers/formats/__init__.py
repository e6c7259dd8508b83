"""The formats, one module each: what a record of it says, as `TraceCall`s."""
