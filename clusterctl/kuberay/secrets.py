"""What looks like a secret, and is therefore in nothing that is written."""

from __future__ import annotations

import re

NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY)", re.IGNORECASE)  # of a variable
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bsk-[A-Za-z0-9_-]{16,}|\bxox[abps]-[\w-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\."  # a JSON web token
    r"|://[^/\s:@]+:[^/\s@$]+@"  # a password in an address
)
_GIVEN = re.compile(  # in a command: NAME_TOKEN=abc, --password abc, `login abc`; what is taken from a variable is none
    r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY)\w*[\"']?\s*=\s*[\"']?[^\s\"'$<{]{4,}"
    r"|--(token|password|api-key|secret)[= ]\s*[\"']?[^\s\"'$<{-]\S{3,}"
    r"|\bwandb login (--\S+ )*[^\s$-]{8,}",
    re.IGNORECASE,
)


def is_secret(text: str) -> bool:
    """Whether some text has in it what opens a door."""
    return bool(_VALUE.search(text) or _GIVEN.search(text))
