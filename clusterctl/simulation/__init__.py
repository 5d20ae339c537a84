"""Reading, showing and keeping for `clusterctl simulate`; the simulation itself is pure and lives in `core.simulate`."""
