"""What each provider is, one module with one `Kind` for each, and all of them in `registry.KINDS`."""
