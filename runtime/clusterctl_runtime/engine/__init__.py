"""The only place that knows Ray: `launch` runs on nodes, `client` and `config` on the head, `helper` under Ray's Python."""
