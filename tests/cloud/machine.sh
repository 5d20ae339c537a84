#!/bin/bash
# Process 1 of a machine: in namespaces of its own (mount, pid, uts, ipc, network), its / an overlay over this host's.
# Arguments: directory, host name, address, python, the prefix of its environment. The directory has `user-data` and `authorized_keys`.
set -e
D=$1 NAME=$2 ADDRESS=$3 PYTHON=$4 PREFIX=$5
mount --make-rprivate /
mount -t tmpfs -o size=2g,mode=0755 machine "$D/mnt"
mkdir "$D/mnt/upper" "$D/mnt/work" "$D/mnt/root"
R=$D/mnt/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$D/mnt/upper,workdir=$D/mnt/work" "$R"
mount -t proc proc "$R/proc"
mount --rbind /dev "$R/dev"
mount -t tmpfs -o mode=1777 tmpfs "$R/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
case $PREFIX in /tmp/*)  # the environment of the tests themselves: a machine has Ray from there
  mkdir -p "$R$PREFIX" && mount --bind "$PREFIX" "$R$PREFIX";; esac
mount -t tmpfs -o mode=0755 tmpfs "$R/run"
mount -t sysfs sysfs "$R/sys" 2>/dev/null || true
hostname "$NAME"
printf '127.0.0.1 localhost\n%s %s\n' "$ADDRESS" "$NAME" >"$R/etc/hosts"
rm -rf "$R/var/lib/cloud"
mkdir -p "$R/run/sshd" "$R/var/lib/cloud/instance"
cp "$D/user-data" "$R/var/lib/cloud/instance/user-data.txt"
cp "$D/authorized_keys" "$R/authorized_keys"
ln -sfn "$PYTHON" "$R/usr/local/bin/python3"
for command in systemctl shutdown poweroff; do  # no init system here: turning off is ending process 1
  rm -f "$R/usr/local/sbin/$command"
  cat >"$R/usr/local/sbin/$command" <<'OFF'
#!/bin/bash
case "$0 $*" in *systemctl\ poweroff*|*shutdown\ -h\ now*|*poweroff*) kill -TERM 1; exit 0;; esac
exit 1
OFF
  chmod 755 "$R/usr/local/sbin/$command"
done
cat >"$R/machine-init" <<'INIT'
trap 'exit 0' TERM
id ubuntu >/dev/null 2>&1 || useradd -m -s /bin/bash ubuntu
usermod -p '*' ubuntu  # sshd without PAM refuses a locked account
mkdir -p /home/ubuntu/.ssh && cp /authorized_keys /home/ubuntu/.ssh/ && chown -R ubuntu /home/ubuntu && chmod 700 /home/ubuntu/.ssh
if [ -x /usr/sbin/sshd ] && [ -s /authorized_keys ]; then
  rm -f /etc/ssh/ssh_host_*
  ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
  printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nUsePAM no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\nUseDNS no\nPidFile none\n' >/sshd_config
  /usr/sbin/sshd -D -e -f /sshd_config >/var/log/sshd.log 2>&1 &
fi
script=/var/lib/cloud/instance/script
if head -c2 /var/lib/cloud/instance/user-data.txt | grep -q '#!'; then
  cp /var/lib/cloud/instance/user-data.txt $script
  chmod 700 $script
  cd / && $script
fi
while :; do wait -n || sleep 1; done
INIT
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$R" /bin/bash /machine-init
