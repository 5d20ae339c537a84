"""Ray Tune: trials side by side on nodes that come for them, bad ones stopped early; the search outlives its driver."""

from __future__ import annotations

from pathlib import Path

from tests.ai.conftest import SECONDS, Jobs
from tests.support.cluster import wait_until

# The starter's own search, which notes what each trial does; its first attempt waits in the middle, to be killed there.
HELD = """\
import json, os, time
from pathlib import Path
from ray import tune
import starter

SHARED, ATTEMPT, the_trial = Path(os.environ["STORAGE"]), os.environ["CLUSTERCTL_ATTEMPT"], starter.trial

def held(config):
    report, name = tune.report, tune.get_context().get_trial_id()

    def noting(metrics, checkpoint=None):
        with open(SHARED / "steps", "a") as notes:
            note = {"trial": name, "step": metrics["step"], "attempt": int(ATTEMPT)}
            notes.write(json.dumps(note) + "\\n")
        report(metrics, checkpoint=checkpoint)
        while ATTEMPT == "1" and metrics["step"] == 3:
            time.sleep(0.05)

    tune.report = noting
    the_trial(config)

if __name__ == "__main__":
    with open(SHARED / "drivers", "a") as notes:
        notes.write(json.dumps({"pid": os.getpid()}) + "\\n")
    starter.trial = held
    starter.main()
"""
TRIALS, STEPS = 6, 8


def test_a_search_goes_on_with_its_trials_when_its_driver_is_lost(jobs: Jobs) -> None:
    work = jobs.write("tune", HELD, starter="tune")
    env = ("--env", f"TRIALS={TRIALS}", "--env", "TUNE_GLOBAL_CHECKPOINT_S=1")
    job = jobs.start(work, *env, "--max-retries", "3")

    wait_until(lambda: trials_at(3, jobs), SECONDS, "a trial is in its middle")
    held = trials_at(3, jobs)
    seen = (jobs.shared / "steps").stat().st_mtime
    wait_until(lambda: latest(jobs.shared, "experiment_state") > seen, SECONDS, "Tune has written that down")
    (driver,) = jobs.notes("drivers")
    jobs.cluster.kill(driver["pid"])
    jobs.wait(job)

    assert len(trials_at(0, jobs)) == TRIALS
    assert not held & trials_at(0, jobs, attempt=2), "those that had a checkpoint do not begin again"
    notes = jobs.notes("steps")
    last = {trial: max(n["step"] for n in notes if n["trial"] == trial) for trial in trials_at(0, jobs)}
    assert max(last.values()) == STEPS - 1 and min(last.values()) < STEPS - 1, "some were stopped early"
    assert f"{TRIALS} trials, 0 failed" in jobs.cluster.cli("logs", job).stdout


def trials_at(step: int, jobs: Jobs, attempt: int = 0) -> set[str]:
    """Those that have come to that step, in that attempt of the driver or in any."""
    notes = (note for note in jobs.notes("steps") if attempt in (0, note["attempt"]))
    return {note["trial"] for note in notes if note["step"] == step}


def latest(directory: Path, name: str) -> float:
    """When the last of its files with that name was written."""
    return max((path.stat().st_mtime for path in directory.rglob(f"{name}*")), default=0.0)
