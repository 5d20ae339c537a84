"""What runs as root on the cloud's machine that is to be the head: sent like `host.py`, in the same frame. Standard library only.

    next_host_key       a fresh SSH host key is made and waits; its public half is the answer
    use_next_host_key   it takes the place of the one that came with the user data, which is gone then
    mount_disk          the disk with the head's state is waited for, formatted if it is blank, and mounted for its user

All can be repeated. What they are given is arguments of programs and data in files: no shell reads it.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HOST_KEY = Path("/etc/ssh/ssh_host_ed25519_key")
NEXT = Path("/etc/ssh/clusterctl_next_host_key")
FSTAB = Path("/etc/fstab")
NOTHING_FOUND = 2  # blkid: neither a file system nor anything else that it knows
Json = dict[str, Any]


class Refused(Exception):
    """It cannot be done; the message is a sentence."""


def next_host_key(request: Json) -> Json:
    """One that waits already is the answer again."""
    if not public(NEXT).exists():
        NEXT.unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(NEXT))
    return {"public": public(NEXT).read_text().strip()}


def use_next_host_key(request: Json) -> Json:
    """The public half moves last: while it is there, the move is not over."""
    if public(NEXT).exists():
        for old in HOST_KEY.parent.glob("ssh_host_*_key*"):
            if old not in (HOST_KEY, public(HOST_KEY)):
                old.unlink()
        if NEXT.exists():
            NEXT.replace(HOST_KEY)
        public(NEXT).replace(public(HOST_KEY))
    for unit in ("ssh.service", "sshd.service"):  # Debian's name, and the others'
        subprocess.run(["systemctl", "try-reload-or-restart", unit], capture_output=True)
    return {}


def public(path: Path) -> Path:
    """Where ssh-keygen puts the public half of a key."""
    return path.with_name(f"{path.name}.pub")


def mount_disk(request: Json) -> Json:
    """`paths`: where the disk may show, `user`: whose it is to be, `seconds`: how long to wait for it."""
    user = pwd.getpwnam(request["user"])
    place = Path(user.pw_dir) / request["directory"]
    made = False
    if not mounted_at(place):
        device = wait_for_device(request["paths"], float(request["seconds"]))
        made = is_blank(device)
        if made:
            run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", device)
        uuid = run("blkid", "-p", "-s", "UUID", "-o", "value", device).strip()
        place.mkdir(mode=0o700, exist_ok=True)
        keep_in_fstab(uuid, place)
        run("mount", device, str(place))
    os.chown(place, user.pw_uid, user.pw_gid)
    place.chmod(0o700)
    return {"made": made}


def wait_for_device(paths: list[str], seconds: float) -> str:
    """The device behind the first of `paths` to show. Raises Refused after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        for path in paths:
            if Path(path).exists():
                return str(Path(path).resolve())
        if time.monotonic() > deadline:
            raise Refused(f"the head's disk does not show there within {seconds:g} s (looked for {', '.join(paths)})")
        time.sleep(0.05)


def is_blank(device: str) -> bool:
    """Nothing at all is known on it. Where that is in doubt it is not blank: what is on a disk is never destroyed."""
    done = subprocess.run(["blkid", "-p", device], capture_output=True, text=True)
    if done.returncode not in (0, NOTHING_FOUND):
        raise Refused(f"it cannot be told what is on the head's disk {device}: {(done.stderr or done.stdout).strip()}")
    return done.returncode == NOTHING_FOUND


def keep_in_fstab(uuid: str, place: Path) -> None:
    """Mounted again after a reboot; a machine without the disk boots all the same."""
    lines = [line for line in FSTAB.read_text().splitlines() if f" {place} " not in line] if FSTAB.exists() else []
    part = FSTAB.with_name(".fstab.clusterctl")
    with part.open("w") as file:
        file.write("\n".join([*lines, f"UUID={uuid} {place} ext4 defaults,nofail 0 2"]) + "\n")
        file.flush()
        os.fsync(file.fileno())  # half a table after a power cut, and the machine does not boot
    part.replace(FSTAB)


def mounted_at(place: Path) -> bool:
    """Whether something is mounted at the place itself."""
    return any(line.split()[1:2] == [str(place)] for line in Path("/proc/self/mounts").read_text().splitlines())


def run(*argv: str) -> str:
    """Its stdout. Raises Refused where it fails, or takes five minutes."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        raise Refused(f"{argv[0]} could not be run there: {error}") from error
    if done.returncode:
        raise Refused(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


ACTIONS = {action.__name__: action for action in (next_host_key, use_next_host_key, mount_disk)}


def serve() -> None:
    """Answers the one request that is on stdin; a failure is an answer, too."""
    source = sys.stdin.buffer
    request = json.loads(source.read(int(source.readline())))
    os.umask(0o077)
    try:
        answer = {"ok": True, **ACTIONS[request["do"]](request)}
    except (Refused, KeyError) as error:
        answer = {"ok": False, "error": str(error)}
    except OSError as error:
        answer = {"ok": False, "error": f"{error.strerror or error} ({error.filename or ''})"}
    print("\n" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
