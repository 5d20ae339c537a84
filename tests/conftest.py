"""What every test needs, wherever it is run from."""

from __future__ import annotations

import signal

# A shell that runs a command in the background makes it ignore SIGINT, and all that it starts. Tests press Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
