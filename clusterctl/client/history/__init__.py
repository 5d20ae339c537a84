"""What is kept of clusters that are down: their jobs, logs, events and costs, as their heads told them last."""
