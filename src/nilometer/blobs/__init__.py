"""Blobs: large values in object storage, durable before the event that names them."""
