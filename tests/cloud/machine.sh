#!/bin/bash
# Process 1 of a machine: in namespaces of its own (mount, pid, uts, ipc, network), its / an overlay over this host's.
# Arguments: directory, host name, address, python, the prefix of its environment, seconds by which its clock is wrong. The directory has `user-data`, `startup`, `hosts`, `authority`, `user` and `authorized_keys`.
# What it and the programs in it write to /dev/console goes to this script's standard output.
set -e
D=$1 NAME=$2 ADDRESS=$3 PYTHON=$4 PREFIX=$5 CLOCK=$6
mount --make-rprivate /
mount -t tmpfs -o size=2g,mode=0755 machine "$D/mnt"
mkdir "$D/mnt/upper" "$D/mnt/work" "$D/mnt/root"
AGAIN=
[ ! -e "$D/disk.tar" ] || { AGAIN=1; tar --xattrs --xattrs-include='*' -C "$D/mnt/upper" -xpf "$D/disk.tar"; rm "$D/disk.tar"; }
R=$D/mnt/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$D/mnt/upper,workdir=$D/mnt/work" "$R"
mount -t proc proc "$R/proc"
mount -t tmpfs -o mode=0755 dev "$R/dev"  # devices of its own: disks come and go there
for device in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "$R/dev/${device%:*}" c 1 "${device#*:}"; done
mknod -m 666 "$R/dev/tty" c 5 0
mkdir "$R/dev/pts" "$R/dev/shm" "$R/dev/disk"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"
ln -s /proc/self/fd "$R/dev/fd"
for stream in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${stream#*:}" "$R/dev/${stream%:*}"; done
ln -s /proc/1/fd/1 "$R/dev/console"
mount -t tmpfs -o mode=1777 tmpfs "$R/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
case $PREFIX in /tmp/*)  # the environment of the tests themselves: a machine has Ray from there
  mkdir -p "$R$PREFIX" && mount --bind "$PREFIX" "$R$PREFIX";; esac
mount -t tmpfs -o mode=0755 tmpfs "$R/run"
mount -t sysfs sysfs "$R/sys" 2>/dev/null || true
hostname "$NAME"
printf '127.0.0.1 localhost\n%s %s\n' "$ADDRESS" "$NAME" | cat - "$D/hosts" >"$R/etc/hosts"
[ ! -s "$D/authority" ] || cp "$D/authority" "$R/etc/ssl/authority.pem"
[ "$AGAIN" ] || rm -rf "$R/var/lib/cloud" "$R"/etc/ssh/ssh_host_*  # a new machine has keys of its own, and keeps them
mkdir -p "$R/run/sshd" "$R/run/lock" "$R/var/lib/cloud/instance" "$R/var/lib/cloud/data"
printf '%s\n' "$D" >"$R/run/machine"
cp "$D/user-data" "$R/var/lib/cloud/instance/user-data.txt"
cp "$D/authorized_keys" "$R/authorized_keys"
cp "$D/user" "$R/login-user"
install -m 700 "$D/startup" "$R/run/startup-script"
ln -sfn "$PYTHON" "$R/usr/local/bin/python3"
# No init system here: turning off is ending process 1, and the one service is sshd.
cat >"$R/usr/local/sbin/systemctl" <<'SYSTEMCTL'
#!/bin/bash
case "${0##*/} $*" in
  systemctl\ *poweroff*|systemctl\ *halt*|shutdown*\ now*|shutdown*\ +0*|poweroff*|halt*) kill -TERM 1; exit 0;;
  systemctl\ *restart\ ssh*|systemctl\ *reload*\ ssh*|service\ ssh*\ re*) kill -HUP "$(cat /run/sshd.pid)"; exit;;
esac
exit 1
SYSTEMCTL
chmod 755 "$R/usr/local/sbin/systemctl"
for command in shutdown poweroff halt service; do ln -sfn systemctl "$R/usr/local/sbin/$command"; done
clock=()
if [ "$CLOCK" != 0 ]; then
  cp "$D/wrong_clock.so" "$R/usr/local/lib/"
  clock=(LD_PRELOAD=/usr/local/lib/wrong_clock.so "CLOCK_OFFSET=$CLOCK")
fi
cat >"$R/machine-init" <<'INIT'
trap 'exit 0' TERM
if [ -s /authorized_keys ]; then
  U=$(cat /login-user)
  id "$U" >/dev/null 2>&1 || useradd -m -s /bin/bash "$U"
  usermod -p '*' "$U"  # sshd without PAM refuses a locked account
  mkdir -p "/home/$U/.ssh" /etc/sudoers.d && cp /authorized_keys "/home/$U/.ssh/" && chown -R "$U" "/home/$U" && chmod 700 "/home/$U/.ssh"
  echo "$U ALL=(ALL) NOPASSWD:ALL" >/etc/sudoers.d/90-cloud-init-users && chmod 440 /etc/sudoers.d/90-cloud-init-users
fi
if [ -x /usr/sbin/sshd ] && [ -s /authorized_keys ]; then
  if [ ! -e /etc/ssh/ssh_host_ed25519_key ]; then
    for kind in ecdsa ed25519; do ssh-keygen -q -t $kind -N '' -f /etc/ssh/ssh_host_${kind}_key; done
  fi
  printf 'UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nUseDNS no\nPidFile /run/sshd.pid\n' >/etc/ssh/sshd_config
  [ ! -s /etc/ssl/authority.pem ] || echo 'SetEnv REQUESTS_CA_BUNDLE=/etc/ssl/authority.pem' >>/etc/ssh/sshd_config
  /usr/sbin/sshd -D -E /var/log/sshd.log &
fi
# As cloud-init does it: scripts for each boot, then the user data at the first boot of an instance only.
for each in /var/lib/cloud/scripts/per-boot/*; do [ ! -x "$each" ] || "$each"; done
script=/var/lib/cloud/instance/script
if [ ! -e $script ] && head -c2 /var/lib/cloud/instance/user-data.txt | grep -q '#!'; then
  cp /var/lib/cloud/instance/user-data.txt $script
  chmod 700 $script
  cd / && $script
fi
touch /var/lib/cloud/instance/boot-finished
[ ! -s /run/startup-script ] || (cd / && /run/startup-script)
while :; do wait -n || sleep 1; done
INIT
: >"$D/ready"
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "${clock[@]}" chroot "$R" /bin/bash /machine-init
