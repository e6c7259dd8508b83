"""The client library: tracks what calls used, in the caller's process, and delivers it."""
