"""A job starts alike, whatever the process that started its agent was like."""

from __future__ import annotations

import json
import sys

from clusterctl_runtime.agent.tasks.inherited import OPEN_FILES, STACK_BYTES
from clusterctl_runtime.wire import TaskSpec

T = "j-1/1/0"
# What a careless script may leave to its children; `ulimit -n` is below what is stated, and both stay below the hard limit.
CARELESS_SCRIPT = (
    "trap '' HUP QUIT USR1 CHLD; umask 077; ulimit -S -n 256; ulimit -S -c 0 -s 1024; exec nice -n 5 \"$@\""
)
CARELESS = ["bash", "-c", CARELESS_SCRIPT, "-"]
SHOW = """
import json, os, re, resource, stat
status = dict(re.findall(r"^(Sig\\w+|Umask):\\s*(\\w+)$", open("/proc/self/status").read(), re.M))
open("f", "w").close()
print(json.dumps({
    "ignored": status["SigIgn"], "blocked": status["SigBlk"], "umask": status["Umask"],
    "mode": oct(stat.S_IMODE(os.stat("f").st_mode)), "nice": os.nice(0),
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")},
    "oom": open("/proc/self/oom_score_adj").read().strip(),
}))
"""


RESERVED = 0b11 << 31  # signals 32 and 33 are the C library's own: no program can ask it for them


def test_umask_signals_limits_and_niceness_are_as_stated(head, start_agent) -> None:
    start_agent(under=CARELESS)
    head.until_joined()
    # Python ignores SIGPIPE and SIGXFSZ for itself once it runs: what was inherited is read by a shell.
    program = f'sed -n "s/^SigIgn:[[:space:]]*//p" /proc/self/status; exec {sys.executable} -c "$0"'
    head.run(TaskSpec(T, ["/bin/sh", "-c", program, SHOW]))
    assert head.until_exited(T).exit_code == 0
    ignored, _, rest = bytes(head.log(T).data).decode().partition("\n")
    assert int(ignored, 16) & ~RESERVED == 0
    seen = json.loads(rest)
    assert int(seen["blocked"], 16) == 0
    assert (seen["umask"], seen["mode"]) == ("0022", "0o644")
    assert seen["oom"] == "0" and seen["nice"] in (0, 5)  # only root may be nicer to itself
    stated = {"RLIMIT_NOFILE": OPEN_FILES, "RLIMIT_STACK": STACK_BYTES, "RLIMIT_CORE": 0}
    for name, (soft, hard) in seen["limits"].items():
        wanted = stated.get(name, hard)
        assert soft == (wanted if hard == -1 else hard if wanted == -1 else min(wanted, hard)), name


def test_an_agent_goes_on_ignoring_what_it_was_told_to_ignore(head, start_agent) -> None:
    agent = start_agent(under=CARELESS)
    head.until_joined()
    beats = head.beats
    for number in (1, 3, 10):
        agent.process.send_signal(number)
    head.until(lambda: head.beats > beats + 2)
    assert agent.process.poll() is None
