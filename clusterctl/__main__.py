"""`python -m clusterctl`."""

from clusterctl.cli.start import run

if __name__ == "__main__":
    run()
