#!/bin/sh
# The first thing a new cloud machine runs, as root, at its first boot; on Google Cloud also at later ones. It is the same for
# every node: what differs is the JSON document after the last line, which python reads as data. It finds a Python >= 3.10,
# fetches the agent from a head of the cluster (TLS, pinned to the cluster's own CA), checks its digest, and starts it.
for python in /opt/clusterctl/bin/python3 python3 python3.14 python3.13 python3.12 python3.11 python3.10 /usr/local/bin/python3; do
  if command -v "$python" >/dev/null 2>&1 && "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    exec "$python" -I - "$0" <<'CLUSTERCTL_PYTHON'
import glob, hashlib, http.client, json, os, shlex, socket, ssl, subprocess, sys, time, urllib.request

STATE = "/var/lib/clusterctl"
PER_BOOT = "/var/lib/cloud/scripts/per-boot/clusterctl"  # cloud-init runs what is there at each boot
# Under systemd where it is in charge (the agent then outlives the unit that started it), else in a session of its own.
START = """#!/bin/sh
cd %(state)s || exit
set -- %(python)s -I %(state)s/agent.pyz --bootstrap %(state)s/bootstrap.json
if [ -d /run/systemd/system ] && systemctl -q is-active clusterctl-agent
then exit
fi
if [ -d /run/systemd/system ] && systemd-run --unit=clusterctl-agent --collect --setenv=HOME=/root \\
  --property=KillMode=mixed --property=LimitNOFILE=1048576 --property=Restart=on-failure \\
  --property='RestartPreventExitStatus=0 2 3 4 5' "$@"
then exit
fi
setsid "$@" >>agent.log 2>&1 </dev/null &
"""


def say(text):
    line = "clusterctl: " + text
    print(line, flush=True)
    try:
        with open("/dev/console", "w") as console:
            console.write(line + "\n")
    except OSError:
        pass


def read_document(path):
    with open(path, encoding="utf-8") as file:
        return json.loads(file.read().rpartition("\n#clusterctl-document\n")[2])


def ask(url, headers, method="GET"):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return direct.open(urllib.request.Request(url, method=method, headers=headers), timeout=5).read().decode()


def aws(fact):
    base, path = "http://169.254.169.254/latest", {"address": "local-ipv4", "index": "ami-launch-index"}[fact]
    token = ask(base + "/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"}, "PUT")
    return ask(base + "/meta-data/" + path, {"X-aws-ec2-metadata-token": token})


def gcp(fact):
    path = {"address": "network-interfaces/0/ip", "name": "name"}[fact]
    return ask("http://169.254.169.254/computeMetadata/v1/instance/" + path, {"Metadata-Flavor": "Google"})


def azure(fact):
    path = {"address": "network/interface/0/ipv4/ipAddress/0/privateIpAddress", "name": "compute/name"}[fact]
    url = "http://169.254.169.254/metadata/instance/%s?api-version=2021-02-01&format=text" % path
    return ask(url, {"Metadata": "true"})


# By the name in the document: this machine's private "address", and its "name" or its "index" in the launch; and what starts
# the agent at later boots, where this script does not.
CLOUDS = {"aws": (aws, PER_BOOT), "azure": (azure, PER_BOOT), "gcp": (gcp, STATE + "/start")}


def who_am_i(names, nodes, metadata, until):
    """Our entry among the nodes of this launch: our own name says which, or the launch index."""
    while len(nodes) > 1:
        try:
            return nodes[names.index(metadata("name").strip()) if names else int(metadata("index"))]
        except (OSError, ValueError) as error:
            if time.monotonic() > until:
                raise
            say("the metadata service does not answer (%s), trying again" % error)
            time.sleep(1)
    return nodes[0]


class Pinned(http.client.HTTPSConnection):
    """TLS to a head by address: its certificate names the cluster, not a host."""

    def __init__(self, host, port, boot):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=boot["ca_pem"])
        super().__init__(host, port, timeout=20, context=context)
        self.server_name, self.pinned = "head-%s.clusterctl.internal" % boot["uid"], context

    def connect(self):
        raw = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self.pinned.wrap_socket(raw, server_hostname=self.server_name)


def fetch(boot, until):
    """The agent's bytes, with the digest that the document names; tries all heads in turn until time is up."""
    pause = 0.2
    while True:
        for head in boot["heads"]:
            host, _, port = head.rpartition(":")
            try:
                connection = Pinned(host.strip("[]"), int(port), boot)
                connection.request("GET", "/bundle/" + boot["bundle_digest"])
                answer = connection.getresponse()
                data = answer.read()
                if answer.status != 200:
                    raise OSError("it answered %d" % answer.status)
                if hashlib.sha256(data).hexdigest() != boot["bundle_digest"]:
                    raise OSError("the agent's digest is wrong")
                return data
            except (OSError, http.client.HTTPException) as error:
                say("no agent from the head at %s yet: %s" % (head, error))
        if time.monotonic() > until:
            raise OSError("no head gave the agent in time")
        time.sleep(pause)
        pause = min(pause * 1.5, 5)


def write(path, data, mode):
    descriptor = os.open(path + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.replace(path + ".part", path)


def start(starter):
    """At once, and by `starter` at each later boot."""
    os.makedirs(os.path.dirname(starter), exist_ok=True)
    write(starter, (START % {"state": STATE, "python": shlex.quote(sys.executable)}).encode(), 0o700)
    subprocess.run([starter], check=True)


def is_done(digest):
    """Whether this very script did its work here: the disk may be a copy of another node's."""
    try:
        with open(STATE + "/script.sha256", encoding="utf-8") as file:
            return file.read() == digest
    except OSError:
        return False


def take_host_key(text):
    """The head's machine: the SSH host key that the client expects. It serves for one login, then the client has it replaced."""
    path = "/etc/ssh/ssh_host_ed25519_key"
    for old in glob.glob("/etc/ssh/ssh_host_*_key*"):
        os.unlink(old)
    write(path, text.encode(), 0o600)
    write(path + ".pub", subprocess.run(["ssh-keygen", "-y", "-f", path], check=True, stdout=subprocess.PIPE).stdout, 0o644)
    for unit in ("ssh.service", "sshd.service"):  # Debian's name, and the others'
        subprocess.run(["systemctl", "try-reload-or-restart", unit], stderr=subprocess.DEVNULL)


def power_off(reason):
    say(reason + "; turning this machine off")
    for command in (["systemctl", "poweroff"], ["shutdown", "-h", "now"], ["poweroff"]):
        try:
            if subprocess.run(command, timeout=30).returncode == 0:
                return
        except (OSError, subprocess.SubprocessError):
            pass


def main():
    os.makedirs(STATE, mode=0o700, exist_ok=True)
    with open(sys.argv[1], "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    document = read_document(sys.argv[1])
    boot, (metadata, starter) = document["boot"], CLOUDS[document["boot"]["metadata"]]
    if is_done(digest):
        return start(starter)
    until = time.monotonic() + float(boot.get("orphan_timeout", 900))
    head, names = boot.pop("head", None), boot.pop("names", None)
    if head:
        take_host_key(head["host_key"])
    try:
        if head:  # it dials itself, and tells the others by which address they reach it
            boot["address"] = metadata("address")
        node_id, generation, secret = who_am_i(names, document["nodes"], metadata, until)
        boot.update(node_id=node_id, generation=generation, join_token=secret)
        write(STATE + "/agent.pyz", fetch(boot, until), 0o755)
    except (OSError, ValueError, LookupError) as error:
        return power_off("this node cannot join its cluster: %s" % error)
    write(STATE + "/bootstrap.json", json.dumps(boot).encode(), 0o600)
    write(STATE + "/script.sha256", digest.encode(), 0o600)
    say("starting the agent of %s" % node_id)
    start(starter)


main()
CLUSTERCTL_PYTHON
  fi
done
echo "clusterctl: no Python >= 3.10 on this image: choose another image of the pool; turning this machine off in 15 minutes" | tee /dev/console
shutdown -h +15 2>/dev/null || { sleep 900; poweroff; }
exit 1
#clusterctl-document
