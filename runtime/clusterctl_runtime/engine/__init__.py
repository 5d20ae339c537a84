"""Ray, and the only place that knows it: `launch` runs on nodes, `client` and `config` on the head, `helper` under Ray's Python."""
