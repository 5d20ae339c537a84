"""A real Kubernetes for tests: its own programs, built once from Debian's source package, started on the loopback."""
