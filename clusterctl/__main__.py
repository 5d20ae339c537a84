"""`python -m clusterctl`."""

from clusterctl.cli.main import run

if __name__ == "__main__":
    run()
