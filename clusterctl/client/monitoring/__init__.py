"""A cluster's figures in Prometheus and Grafana: a way to them that stays open, and the files that both are set up by."""
