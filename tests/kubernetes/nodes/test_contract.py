"""The contract that every provider passes, against a real control plane."""

from tests.contract.test_contract import *  # noqa: F403
