"""The log: where an event is durable before it is acknowledged. The only port."""
