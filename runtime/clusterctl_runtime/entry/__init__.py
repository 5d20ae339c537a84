"""The entry of services: an HTTP/1.1 proxy in a process of its own, which knows nothing of the head (docs/adr/0803)."""
