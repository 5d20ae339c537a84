#!/bin/sh
# What a machine runs, as root, once, of which an image is made: a Python environment with Ray at /opt/clusterctl, that
# nodes started from the image find there. The script is the same for every image: what differs is the JSON document after
# the last line, which python reads as data. The last word on the console says how it went; then the machine turns itself off.
(sleep 7200; poweroff) >/dev/null 2>&1 &
for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
  if command -v "$python" >/dev/null 2>&1 && "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    exec "$python" -I - "$0" <<'CLUSTERCTL_PYTHON'
import glob, json, os, shutil, subprocess, sys, time

PLACE = "/opt/clusterctl"
APT = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-q", "-y"]


def say(text):
    line = "clusterctl-image: " + text
    print(line, flush=True)
    try:
        with open("/dev/console", "w") as console:
            console.write(line + "\n")
    except OSError:
        pass


def read_document(path):
    with open(path, encoding="utf-8") as file:
        return json.loads(file.read().rpartition("\n#clusterctl-document\n")[2])


def run(argv, env):
    """Raises OSError with the end of what the command said."""
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        tail = done.stdout.decode("utf-8", "replace").strip()[-800:].replace("\n", " | ")
        raise OSError("%s ended with exit code %d: %s" % (" ".join(argv[:4]), done.returncode, tail))
    return done.stdout.decode("utf-8", "replace")


def make_environment(env):
    """Debian and Ubuntu keep what makes environments in a package of its own."""
    argv = [os.path.realpath(sys.executable), "-I", "-m", "venv", "--clear", PLACE]  # a link would be taken for its home
    try:
        run(argv, env)
    except OSError as error:
        if not shutil.which("apt-get"):
            raise
        say("installing python3-venv (%s)" % error)
        run(APT + ["update"], env)
        run(APT + ["install", "python3-venv"], env)
        run(argv, env)


def install(document, env):
    make_environment(env)
    say("installing " + ", ".join(document["requirements"]))
    pip = [PLACE + "/bin/python3", "-I", "-m", "pip", "install", "--no-input", "--no-cache-dir", "--disable-pip-version-check"]
    run(pip + document["requirements"], env)
    found = run([PLACE + "/bin/python3", "-I", "-c", "import importlib.metadata as m; print(m.version('ray'))"], env).strip()
    if found != document["ray"]:
        raise OSError("Ray %s was installed, %s was wanted" % (found, document["ray"]))
    with open(PLACE + "/image.json", "w") as file:
        json.dump({"content": document["content"], "ray": found, "made": int(time.time())}, file)


def forget():
    """What is of this machine and not of the image: it must not be the same on all that start from it."""
    for path in glob.glob("/etc/ssh/ssh_host_*") + glob.glob("/home/*/.ssh/authorized_keys"):
        os.unlink(path)
    shutil.rmtree("/var/lib/clusterctl", ignore_errors=True)
    if os.path.exists("/etc/machine-id"):
        open("/etc/machine-id", "w").close()
    if shutil.which("waagent"):  # Azure's: with the user that it made
        subprocess.run(["waagent", "-force", "-deprovision+user"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if shutil.which("cloud-init"):
        subprocess.run(["cloud-init", "clean", "--logs"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def power_off():
    subprocess.run(["sync"])
    for command in (["systemctl", "poweroff"], ["shutdown", "-h", "now"], ["poweroff"]):
        try:
            if subprocess.run(command, timeout=30).returncode == 0:
                return
        except (OSError, subprocess.SubprocessError):
            pass


def main():
    document = read_document(sys.argv[1])
    env = {"PATH": os.environ.get("PATH", ""), "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    env.update(document["env"])
    try:
        install(document, env)
        forget()
        say("done " + document["content"])
    except (OSError, ValueError, KeyError) as error:
        say("failed: %s" % error)
    time.sleep(document.get("linger", 0))  # where the console is gone with the machine
    power_off()


main()
CLUSTERCTL_PYTHON
  fi
done
echo "clusterctl-image: failed: no Python >= 3.10 on this image: choose another base image" | tee /dev/console
sleep 60
poweroff
exit 1
#clusterctl-document
