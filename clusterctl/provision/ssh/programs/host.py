"""What runs on a host: this text is sent to its Python on stdin, with a request as JSON and a blob. Standard library only.

    stdin:   LENGTH\\n this file, LENGTH\\n the request, the blob      stdout: the answer, one JSON object on the last line

Nothing of the request is ever a part of a command line, and no shell reads it. Everything of a cluster lies below one
directory, `~/.clusterctl-host`, and belongs to the cluster named in its `owner.json`. Where several machines have one home,
each has a directory of its own there: the first one that name, the others `~/.clusterctl-host-IDENTITY`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.abc
import importlib.util
import io
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

NAME = ".clusterctl-host"
ROOT = Path.home() / NAME  # `serve` looks for this machine's own one
SITE = Path("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
CRON_MARK = "# clusterctl"
END_SECONDS = 25.0
Json = dict[str, Any]


class Refused(Exception):
    """The host is not ours to change; the message says whose it is."""


# ---------------------------------------------------------------- which directory is this machine's


def identity() -> str:
    """Names this machine, the same after a reboot. Clones of one image may have one machine id: so the name counts, too."""
    machine = next(filter(None, map(text_of, (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")))), "")
    return sha256(f"{machine.strip()} {os.uname().nodename}")[:12]


def running_system() -> str:
    """The same for whoever is on this very machine (or in this container) now, and for nobody else; "" where that is not told."""
    boot = text_of(Path("/proc/sys/kernel/random/boot_id")).strip()
    try:
        processes_of = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        processes_of = ""
    return sha256(f"{boot} {processes_of} {os.uname().nodename}")[:16] if boot and processes_of else ""


def places() -> list[Path]:
    """Every directory of a host in this home, this machine's and those of others that share it."""
    return sorted(path for path in Path.home().glob(f"{NAME}*") if path.is_dir())


def find_root() -> Path:
    """This machine's directory: the one from which its daemon runs, wherever that is; else the one that bears its identity;
    else the usual one, if no other machine has it. A disk that is mounted there came with the machine."""
    first, mine = Path.home() / NAME, Path.home() / f"{NAME}-{identity()}"
    if os.path.ismount(first):
        return first
    known = {os.fsencode(place): place for place in (first, *places())}
    for pid in processes(lambda argv, env: b"--keep" in argv and not known.keys().isdisjoint(argv)):
        for part in arguments_of(pid):
            if part in known:
                return known[part]
    return mine if mine.exists() or not is_ours(first) else first


def is_ours(place: Path) -> bool:
    """Nobody's, or this machine's."""
    return (read(place / "owner.json") or {}).get("machine", identity()) == identity()


# ---------------------------------------------------------------- looking


def load_facts(source: bytes) -> Any:
    """The agent's own reading of facts, sent along as the file that it is. It needs no place on a disk, which may be full."""
    loader = Sent(source.decode())
    found = importlib.util.spec_from_loader("facts", loader)
    assert found is not None
    module = sys.modules[found.name] = importlib.util.module_from_spec(found)
    loader.exec_module(module)
    return module


class Sent(importlib.abc.InspectLoader):
    """Of a module whose text came with the request."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_source(self, fullname: str) -> str:
        return self._text


def probe(request: Json, blob: bytes) -> Json:
    """What there is: the machine, what is installed, and who owns it. Changes nothing."""
    facts = load_facts(blob)
    settings = read(ROOT / "host.json") or {}
    return {
        **facts.read_facts(Path.home()),
        "python_minor": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "libc": platform.libc_ver()[0],
        "address": [*os.environ.get("SSH_CONNECTION", "").split(), "", "", ""][2],
        "user": os.environ.get("USER") or str(os.getuid()),
        "writable": os.access(Path.home(), os.W_OK),
        "mounted": mounted(Path.home()),
        "processes_left": processes_left(),
        "system": running_system(),
        "directory": str(ROOT),
        "host": str(settings.get("host") or ""),
        "owner": read(ROOT / "owner.json"),
        "bundles": [path.name for path in ROOT.glob("agent-*.pyz")],
        "dists": [path.parent.name for path in ROOT.glob("dist-*/pyvenv.cfg") if runs_here(path.parent)],
        "settings_sha256": sha256(json.dumps(settings, sort_keys=True)) if settings else "",
        "token_sha256": sha256(settings["token"]) if settings.get("token") else "",
        "kept": sorted((read(ROOT / "keep.json") or {}).get("run") or {}) if keeper() else [],
        "head_config": (ROOT / "head" / "config.json").exists(),
        "clock": time.time(),
        "engine": engine_of(request["engine_python"]) if request.get("engine_python") else None,
    }


def mounted(path: Path) -> list[str]:
    """What of it matters: "noexec", "ro"."""
    flags = os.statvfs(path).f_flag
    return [name for name, flag in (("noexec", os.ST_NOEXEC), ("ro", os.ST_RDONLY)) if flags & flag]


def processes_left() -> int | None:
    """Processes and threads that this user may still start, None without a limit (root has none)."""
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if limit == resource.RLIM_INFINITY or os.geteuid() == 0:
        return None
    return max(0, limit - count_processes(os.geteuid()))


def count_processes(uid: int) -> int:
    """How many a user has, threads included: they count towards the limit."""
    count = 0
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and path.stat().st_uid == uid:
                count += sum(1 for _ in (path / "task").iterdir())
    return count


def engine_of(python: str) -> Json:
    """What `python` knows of Ray; `error` where it cannot say."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "def version(name):\n"
        "    try: return m.version(name)\n"
        "    except m.PackageNotFoundError: return ''\n"
        "print(json.dumps({'ray': version('ray'), 'python': '%d.%d.%d' % sys.version_info[:3], 'executable': sys.executable,"
        " 'default': bool(version('aiohttp') and version('prometheus-client'))}))\n"
    )
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=30, check=True)
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return {"error": str(error)}


def wait_head(request: Json, blob: bytes) -> Json:
    """Where the head listens, once it does; else the end of its logs."""
    directory = ROOT / "head"
    deadline = time.monotonic() + float(request.get("seconds", 60))
    while True:
        head = running_head()
        if head and head["pid"] != request.get("not_pid"):
            return {"head": head, "ca_pem": (directory / "ca.pem").read_text()}
        if not head and (error := text_of(directory / "head.error")):
            return {"error": error}
        if time.monotonic() > deadline or not keeper():
            return {"log": "\n".join(tail(path) for path in (ROOT / "head.log", directory / "head.log"))}
        time.sleep(0.02)


def whose(request: Json, blob: bytes) -> Json:
    """Who owns the host, and whether anybody looks after it: `head`, a head of its cluster runs here; `linked`, its daemon is
    connected to one; else `silent`, for so many seconds it has not been. Changes nothing."""
    owner = read(ROOT / "owner.json")
    if not owner:
        return {"owner": None}
    daemons = processes(lambda argv, env: b"--host" in argv and os.fsencode(ROOT / "host.json") in argv)
    parted = modified(ROOT / "silent")
    booted = time.time() - float(Path("/proc/uptime").read_text().split()[0])
    return {
        "owner": owner,
        "head": bool(running_head()),
        "has_head": (ROOT / "head" / "config.json").exists(),
        "linked": bool(daemons) and not parted,
        "silent": time.time() - max(float(owner.get("since") or 0), parted, booted),
        "running": len(of_cluster(owner["uid"])),
    }


def adopt_head(request: Json, blob: bytes) -> Json:
    """Lets another client speak to the head here: its token counts from now on, the former one no more. The head is started
    again with it; its jobs and nodes go on."""
    own(request)
    path = ROOT / "head" / "config.json"
    config = read(path)
    if not config:
        raise Refused("no head was ever started on it")
    write(path, json.dumps({**config, "token_sha256": request["token_sha256"]}, indent=1).encode())
    head = running_head()
    if head and head["pid"] in processes(in_root_head):
        os.kill(head["pid"], signal.SIGKILL)
    return {}


def ended(request: Json, blob: bytes) -> Json:
    """What the head noted when its cluster ended itself; None where it has not. Changes nothing."""
    return {"ended": read(ROOT / "head" / "ended.json")}


def revive_head() -> None:
    """A head whose cluster had ended itself may start again. What it had decided goes first: with that alone it would end
    anew."""
    if (ROOT / "head" / "ended.json").exists():
        (ROOT / "head" / "lifetime.json").unlink(missing_ok=True)
        (ROOT / "head" / "ended.json").unlink()


def logs(request: Json, blob: bytes) -> Json:
    """The ends of the logs of the host's own daemon, for when it does not get through to the head."""
    return {"log": tail(ROOT / "standby.log")}


# ---------------------------------------------------------------- installing


def install(request: Json, blob: bytes) -> Json:
    """Puts the bundle, the host's settings and the head's files in place, and sees to it that the daemons run. Repeatable."""
    own(request)
    if blob:
        digest = hashlib.sha256(blob).hexdigest()
        if digest != request["bundle"]:
            raise Refused(f"the agent arrived damaged (digest {digest[:12]}): run `clusterctl up` again")
        write(ROOT / f"agent-{digest}.pyz", blob, 0o700)
    bundle = str(ROOT / f"agent-{request['bundle']}.pyz")
    run = (read(ROOT / "keep.json") or {}).get("run") or {}
    changed = False
    if request.get("settings"):
        refuse_anothers_place(request)
        changed = (read(ROOT / "host.json") or {}) != request["settings"]
        write(ROOT / "host.json", json.dumps(request["settings"]).encode())
        run["standby"] = [sys.executable, "-I", bundle, "--host", str(ROOT / "host.json")]
    if request.get("head"):
        revive_head()
        (ROOT / "tmp").mkdir(mode=0o700, exist_ok=True)  # what the engine's helper leaves there goes with the rest
        python = str(ROOT / request["head"] / "bin" / "python3")
        run["head"] = [
            "env",
            f"TMPDIR={ROOT / 'tmp'}",
            python,
            "-I",
            "-m",
            "clusterctl_runtime.head",
            str(ROOT / "head"),
        ]
    before = (read(ROOT / "keep.json") or {}).get("run") or {}
    replaced = 0  # the pid of a head that is about to be started anew, from other packages
    if run.get("head") != before.get("head"):
        replaced = int(running_head().get("pid") or 0)
    elif run.get("head") and (request.get("restart_head") or not running_head()):
        replaced = end_head()
    if run != before:
        write(ROOT / "keep.json", json.dumps({"run": run}).encode())
        changed = True
    start = [sys.executable, "-I", bundle, "--keep", str(ROOT)]
    boot = at_boot(start, request["uid"])
    pid = keeper()
    if pid and (changed or (run.get("head") and not running_head())):
        if changed and request.get("settings"):
            restart_standby()
        os.kill(pid, signal.SIGHUP)
    elif not pid:
        start_keeper(start, boot, request["uid"])
    for old in ROOT.glob("agent-*.pyz"):
        if old.name != Path(bundle).name and not named_by_a_process(old.name):
            old.unlink()
    return {"boot": boot, "replaced": replaced}


def refuse_anothers_place(request: Json) -> None:
    """The directory was free, or this host's, when it was looked at; another one may have come since."""
    name, found = request["settings"]["host"], str((read(ROOT / "host.json") or {}).get("host") or "")
    if found not in ("", name, request.get("before")):
        raise Refused(
            f"{name} and {found} have one directory, {ROOT}: they are one machine, or share a home and have the same "
            "/etc/machine-id and host name. List the machine once, or give one of them an id and a name of its own "
            "(`systemd-machine-id-setup`, `hostnamectl set-hostname`)"
        )


def place_dist(request: Json, blob: bytes) -> Json:
    """Unpacks the head's packages as an environment of this host's Python, whole or not at all."""
    own(request)
    place = ROOT / request["dist"]
    if (place / "pyvenv.cfg").exists() and runs_here(place):
        return {"placed": False}
    part = ROOT / f".{request['dist']}.part"
    for old in (part, place):
        shutil.rmtree(old, ignore_errors=True)
    site = part / SITE
    site.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
        archive.extractall(site)  # noqa: S202  made by this very client from its own installation
    python = Path(os.path.realpath(sys.executable))
    (part / "bin").mkdir()
    (part / "bin" / "python3").symlink_to(python)
    (part / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    part.replace(place)
    for old in ROOT.glob("dist-*"):
        if old != place and not named_by_a_process(old.name):
            shutil.rmtree(old, ignore_errors=True)
    return {"placed": True}


def runs_here(place: Path) -> bool:
    """Made for the Python that is here now: a host may have been upgraded, and a disk may have moved to another machine."""
    return (place / SITE).is_dir() and (place / "bin" / "python3").exists()


def place_files(request: Json, blob: bytes) -> Json:
    """Writes small private files below the root: {relative path: text}. None removes. Says which are other than before."""
    own(request)
    changed: list[str] = []
    for name, text in request["files"].items():
        path = ROOT / name
        if ROOT.resolve() not in path.resolve().parents:
            raise Refused(f"{name} is outside of {ROOT}")
        if text is None:
            path.unlink(missing_ok=True)
            continue
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if text_of(path) == text or (request.get("keep") and path.exists()):
            continue
        write(path, text.encode())
        changed.append(name)
    return {"changed": changed}


def own(request: Json) -> None:
    """Claims the host for a cluster: the first one gets it, for good, until it takes it down. Nobody else installs or removes
    until this program has ended."""
    global ROOT
    owner = claim(request)
    if owner.get("machine", identity()) != identity() and ROOT.name == NAME and not os.path.ismount(ROOT):
        ROOT = find_root()  # another machine with the same home was quicker
        owner = claim(request)
    if owner.get("uid") != request["uid"]:
        raise Refused(
            f"it belongs to cluster {owner.get('cluster')!r} ({str(owner.get('uid'))[:8]}): take that one down first "
            f"(`clusterctl down {owner.get('cluster')}`), or remove {ROOT} there when it is long gone"
        )


def claim(request: Json) -> Json:
    """Who owns the directory: this cluster, if nobody did."""
    ROOT.mkdir(mode=0o700, exist_ok=True)
    ROOT.chmod(0o700)
    if not lock_root():
        raise Refused("the cluster was taken down on it at this moment: run `clusterctl up` again")
    owner = {"uid": request["uid"], "cluster": request["cluster"], "since": time.time(), "machine": identity()}
    path, part = ROOT / "owner.json", ROOT / f".owner.{identity()}.{os.getpid()}"
    write(part, json.dumps(owner).encode())
    with contextlib.suppress(FileExistsError):
        os.link(part, path)  # all of it or nothing, and never over another's
    part.unlink()
    return read(path) or {}


def lock_root() -> bool:
    """Holds the lock of the directory until this program ends; false when it was removed while this waited."""
    descriptor = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return os.fstat(descriptor).st_ino == ROOT.stat().st_ino
    except FileNotFoundError:
        return False


# ---------------------------------------------------------------- daemons, at boot and now


def at_boot(start: list[str], uid: str) -> str:
    """Sees to it that the keeper runs after a reboot: "systemd", "cron", or "" where neither can be had."""
    if has_systemd() and place_unit(start, uid):
        return "systemd"
    if not shutil.which("crontab"):
        return ""
    line = "@reboot " + " ".join(quote(part) for part in start) + f" >/dev/null 2>&1 {CRON_MARK} {uid}"
    lines = crontab()
    wanted = [*(old for old in lines if f"{CRON_MARK} {uid}" not in old), line]
    if lines != wanted and not set_crontab(wanted):
        return ""
    return "cron" if shutil.which("cron", path="/usr/sbin:/sbin:/usr/bin") or shutil.which("crond") else ""


def has_systemd() -> bool:
    """Whether it runs here, and this user may give it orders."""
    return Path("/run/systemd/system").is_dir() and sudo("true")


def sudo(*arguments: str, text: str | None = None) -> bool:
    """Whether it was done as root, without a password."""
    command = [*([] if os.geteuid() == 0 else ["sudo", "-n"]), *arguments]
    try:
        done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def unit(uid: str) -> str:
    return f"clusterctl-host-{uid[:8]}.service"


def unit_path(uid: str) -> Path:
    return Path("/etc/systemd/system") / unit(uid)


def place_unit(start: list[str], uid: str) -> bool:
    """Whether the next boot starts this very keeper: after an upgrade it is another file than before."""
    command = " ".join(unit_quote(part) for part in start)
    text = (
        f"[Unit]\nDescription=clusterctl host\nAfter=network-online.target\n[Service]\nUser={os.getuid()}\n"
        f"ExecStart={command}\nRestart=always\nKillMode=process\n[Install]\nWantedBy=multi-user.target\n"
    )
    with contextlib.suppress(OSError):
        if unit_path(uid).read_text() == text:
            return True
    placed = sudo("tee", str(unit_path(uid)), text=text)
    return placed and sudo("systemctl", "daemon-reload") and sudo("systemctl", "enable", unit(uid))


def start_keeper(start: list[str], boot: str, uid: str) -> None:
    """By systemd where that starts it at boot; else, or where it fails, as a process of its own session."""
    if boot == "systemd" and sudo("systemctl", "start", unit(uid)):
        return
    log = os.open(ROOT / "keep.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    subprocess.Popen(start, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
    os.close(log)


def end_head() -> int:
    """Ends a head that runs, or is about to, with what it was told before; its pid if it listened. Its keeper starts another."""
    pid = int(running_head().get("pid") or 0)
    end(processes(in_root_head), 0.0)
    (ROOT / "head" / "head.error").unlink(missing_ok=True)  # of before
    return pid


def restart_standby() -> None:
    """The keeper starts it again at once, with its new settings; nodes go on meanwhile."""
    for pid in processes(lambda argv, env: b"--host" in argv and os.fsencode(ROOT / "host.json") in argv):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def keeper() -> int:
    """The pid of the running keeper, or 0."""
    found = processes(lambda argv, env: b"--keep" in argv and os.fsencode(ROOT) in argv)
    return min(found, default=0)


def crontab() -> list[str]:
    """Lines of this user's, [] for none."""
    done = subprocess.run(["crontab", "-l"], capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else []


def set_crontab(lines: list[str]) -> bool:
    """Whether it was done. Without lines there is no crontab any more."""
    if lines:
        text = "\n".join(lines) + "\n"
        return subprocess.run(["crontab", "-"], input=text, text=True, capture_output=True).returncode == 0
    return subprocess.run(["crontab", "-r"], capture_output=True).returncode == 0


# ---------------------------------------------------------------- removing


def remove(request: Json, blob: bytes) -> Json:
    """Ends all that runs for the cluster and removes every file of it; what is left is told. Repeatable. `host`, where it is
    given, is the only name under which the machine is to be cleaned."""
    owner = read(ROOT / "owner.json")
    uid = request["uid"]
    if owner is not None and owner.get("uid") != uid:
        return {"found": False, "left": [], "others": [str(place) for place in others_places(uid)]}
    used_as = str((read(ROOT / "host.json") or {}).get("host") or "")
    if used_as and request.get("host", used_as) != used_as:
        return {"found": False, "left": [], "others": [], "used_as": used_as}
    found = ROOT.exists()
    if found:
        lock_root()  # an `up` that was killed may still be at work here
    if unit_path(uid).exists():
        sudo("systemctl", "disable", "--now", unit(uid))
        sudo("rm", "-f", str(unit_path(uid)))
        sudo("systemctl", "daemon-reload")
    if shutil.which("crontab") and any(f"{CRON_MARK} {uid}" in line for line in crontab()):
        set_crontab([line for line in crontab() if f"{CRON_MARK} {uid}" not in line])
        found = True
    found = end_processes(uid) or found
    left = [*release_mounts(ROOT), *remove_directory(ROOT)]
    left += [f"process {pid}" for pid in of_cluster(uid)]
    left += [str(path) for path in (ROOT, unit_path(uid)) if path.exists()]
    return {"found": found, "left": left, "others": [str(place) for place in others_places(uid)]}


def release_mounts(place: Path) -> list[str]:
    """Unmounts what nodes here have mounted; a sentence for what could not be."""
    bundle = max(place.glob("agent-*.pyz"), default=None, key=lambda path: path.stat().st_mtime)
    left: list[str] = []
    for record in place.glob("nodes/*/mounts.json") if bundle else ():
        argv = [sys.executable, "-I", str(bundle), "--release", str(record.parent)]
        left += subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.splitlines()
    return left


def remove_directory(place: Path) -> list[str]:
    """Unless something is mounted below it, which is somebody's data: that is told instead."""
    below = f" {place}/".encode()
    table = Path("/proc/self/mountinfo")
    mounted = [line for line in table.read_bytes().splitlines() if below in line] if table.exists() else []
    if mounted:
        return [f"what is mounted below {place} ({len(mounted)}): unmount it, and run this again"]
    shutil.rmtree(place, ignore_errors=True)
    return []


def others_places(uid: str) -> list[Path]:
    """Directories of the cluster in this home that another machine has: one that shares it, or was here before."""
    return [place for place in places() if place != ROOT and (read(place / "owner.json") or {}).get("uid") == uid]


def sweep(request: Json, blob: bytes) -> Json:
    """Once every host of the cluster is clean, what is left of it in this home is nobody's."""
    for place in others_places(request["uid"]):
        remove_directory(place)
    return {"left": [str(place) for place in others_places(request["uid"])]}


def end_processes(uid: str) -> bool:
    """Daemons first, since they would start others; then agents, which end their work; then whatever bears the mark."""
    seen = False
    daemons = processes(lambda argv, env: os.fsencode(ROOT) in argv and b"--keep" in argv)
    seen = end(daemons, 5.0) or seen
    seen = end(processes(lambda argv, env: in_root(argv) and b"--bootstrap" not in argv), 5.0) or seen
    seen = end(processes(lambda argv, env: in_root(argv)), END_SECONDS) or seen
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        rest = of_cluster(uid)
        if not rest:
            break
        seen = True
        for pid in rest:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return seen


def end(pids: list[int], grace: float) -> bool:
    """SIGTERM, and after `grace` seconds SIGKILL. Returns whether there was anything to end."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in pids:
        if alive(pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    return bool(pids)


def of_cluster(uid: str) -> list[int]:
    """All that runs for the cluster here: by the mark in the environment, or by our directory in the command line."""
    mark = f"CLUSTERCTL_INSTANCE=ssh-{uid.replace('-', '')}-".encode()
    return processes(lambda argv, env: in_root(argv) or any(item.startswith(mark) for item in env))


def in_root_head(argv: list[bytes], env: list[bytes]) -> bool:
    """For `processes`: a head that runs from here."""
    return b"clusterctl_runtime.head" in argv and os.fsencode(ROOT / "head") in argv


def in_root(argv: list[bytes]) -> bool:
    """Whether a word of the command line is ROOT, or below it."""
    root = os.fsencode(ROOT)
    return any(part == root or part.startswith(root + b"/") for part in argv)


def named_by_a_process(name: str) -> bool:
    """Whether the command line of another process of this user has the name in it."""
    return bool(processes(lambda argv, env: any(os.fsencode(name) in part for part in argv)))


def processes(wanted: Any) -> list[int]:
    """Living processes of this user (but for this one) for which `wanted(argv, environment)` holds."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) in (os.getpid(), os.getppid()):
            continue
        try:
            if path.stat().st_uid != os.getuid():
                continue
            argv = arguments_of(int(path.name))
            env = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted(argv, env) and alive(int(path.name)):
            found.append(int(path.name))
    return sorted(found)


def arguments_of(pid: int) -> list[bytes]:
    """[] where there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


# ---------------------------------------------------------------- small things


def running_head() -> Json:
    """What the head that runs here wrote of itself, {} where none runs. Ids of processes are used again, at once where the
    machine was restarted, or where another one has its disk: so the time of its start has to be right, too."""
    head = read(ROOT / "head" / "head.json") or {}
    fields = status_of(int(head.get("pid") or 0))
    return head if lives(fields) and int(fields[19]) == head.get("start_ticks") else {}


def alive(pid: int) -> bool:
    """Zombies are not."""
    return lives(status_of(pid))


def lives(fields: list[bytes]) -> bool:
    """By what `status_of` told."""
    return bool(fields) and fields[0] not in (b"Z", b"X")


def status_of(pid: int) -> list[bytes]:
    """/proc/PID/stat from its third field, the state, on; [] where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []


def read(path: Path) -> Any:
    """JSON data; None where the file cannot be read, or is no JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Whoever reads it finds all of the old or all of the new, also after a power cut."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    part.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the name, too
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a network file system that knows no such thing
            raise
    finally:
        os.close(directory)


def text_of(path: Path) -> str:
    """ "" where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def modified(path: Path) -> float:
    """Unix seconds, 0 where there is no such file."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def tail(path: Path, size: int = 1500) -> str:
    """The last `size` bytes; "" where it cannot be read."""
    try:
        return path.read_bytes()[-size:].decode(errors="replace")
    except OSError:
        return ""


def quote(text: str) -> str:
    """One word of a shell in a line of a crontab, where % means something, too."""
    return "'" + text.replace("'", "'\\''").replace("%", "\\%") + "'"


def unit_quote(text: str) -> str:
    """For ExecStart of a unit, where % and $ mean something, too."""
    for special, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        text = text.replace(special, written)
    return f'"{text}"'


def sha256(text: str) -> str:
    """In hex, of its UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


ACTIONS = {
    action.__name__: action
    for action in (probe, whose, adopt_head, wait_head, ended, logs, install, place_dist, place_files, remove, sweep)
}


def in_words(error: OSError) -> str:
    """What happened to what, and what to do about it where that is known."""
    fixes = {
        errno.EAGAIN: "its user may start no more processes: end some, or raise the limit (`ulimit -u`, nproc in limits.conf)",
        errno.EDQUOT: "the quota of its user is used up: free some of it, or have it raised",
        errno.ENOSPC: "the disk is full: free some of it",
        errno.EROFS: "it is mounted read-only: mount it for writing (after an error of the disk, `dmesg` tells)",
    }
    said, fix = f"{error.strerror or error} ({error.filename or ROOT})", fixes.get(error.errno or 0, "")
    return f"{said}: {fix}" if fix else said


def serve() -> None:
    """Answers the one request that is on stdin; a refusal, or an error of the system, is an answer, too."""
    global ROOT
    source = sys.stdin.buffer
    request = json.loads(source.read(int(source.readline())))
    blob = source.read(request.get("blob_size", 0))
    os.umask(0o077)
    try:
        ROOT = find_root()
        answer = {"ok": True, **ACTIONS[request["do"]](request, blob)}
    except Refused as error:
        answer = {"ok": False, "error": str(error)}
    except OSError as error:
        answer = {"ok": False, "error": in_words(error)}
    print("\n" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
