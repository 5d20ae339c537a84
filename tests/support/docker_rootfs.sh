#!/bin/sh
# Makes the file system of the test hosts from Debian packages and leaves it as a tarball at $1. Needs root.
set -eu
tarball=$1
PATH=$PATH:/usr/sbin:/sbin
root=$(mktemp -d "$tarball.XXXXXX")
trap 'rm -rf "$root" "$tarball.part"' EXIT
debootstrap --variant=minbase \
    --include=openssh-server,sudo,python3,ca-certificates,procps,iproute2,cron,curl,rsync,libfaketime,systemd-sysv,dbus \
    bookworm "$root" http://deb.debian.org/debian

for user in admin tester; do
    chroot "$root" useradd --create-home --shell /bin/bash "$user"
    chroot "$root" usermod --password '*' "$user" # a locked account is refused even with a key
    mkdir -m 0700 "$root/home/$user/.ssh"
    chroot "$root" chown "$user:$user" "/home/$user/.ssh"
done
echo 'admin ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/admin"
chmod 0440 "$root/etc/sudoers.d/admin"

# Each host gets keys of its own; name look-ups would only cost time.
rm -f "$root"/etc/ssh/ssh_host_*
cat >"$root/etc/ssh/sshd_config.d/host.conf" <<'CONF'
PasswordAuthentication no
UseDNS no
MaxStartups 100:30:200
MaxSessions 100
CONF

# What a host runs: cron (for @reboot) and sshd, whose log is the container's.
cat >"$root/usr/local/sbin/host" <<'HOST'
#!/bin/sh
mkdir -p -m 0755 /run/sshd
cron
exec /usr/sbin/sshd -D -e
HOST
chmod 0755 "$root/usr/local/sbin/host"

rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/* \
    "$root"/usr/share/locale/* "$root"/dev/*
tar -C "$root" -cf "$tarball.part" .
mv "$tarball.part" "$tarball"
