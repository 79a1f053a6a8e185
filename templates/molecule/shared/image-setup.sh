#!/bin/sh
# Turns a minimal Debian into the image of a test host. Run once, as root, inside the new system.
set -eu

# Reached as servers are: an ordinary user with sudo, who logs in with a key.
useradd --create-home --shell /bin/bash --groups adm,sudo admin
echo 'admin ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/admin
chmod 0440 /etc/sudoers.d/admin
cat >/etc/ssh/sshd_config.d/host.conf <<'END'
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PasswordAuthentication no
UseDNS no
END
rm -f /etc/ssh/ssh_host_*

echo LANG=C.UTF-8 >/etc/default/locale

# Timers of the distribution that would hold the package lock or the disk at a moment nobody chose; what asks for
# kernel modules, which a container cannot load; and logins on screens, which would be the machine's own.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
  fstrim.timer systemd-modules-load.service getty@.service console-getty.service; do
  ln -sf /dev/null "/etc/systemd/system/$unit"
done

# Packages and wheels that one host has fetched are there for the next. Archives are copied, not shared in place:
# apt locks its directory, and hosts run side by side.
rm -f /etc/apt/apt.conf.d/docker-clean
mkdir -p /etc/xdg/pip
printf '[global]\ncache-dir = /var/cache/shared/pip\n' >/etc/xdg/pip/pip.conf
cat >/etc/apt/apt.conf.d/50shared-archives <<'END'
DPkg::Pre-Invoke {"/usr/local/sbin/share-archives";};
END
cat >/usr/local/sbin/share-archives <<'END'
#!/bin/sh
set -eu
cd /var/cache/apt/archives
for archive in *.deb; do
  shared=/var/cache/shared/apt/$archive
  if [ -e "$archive" ] && [ -d /var/cache/shared/apt ] && [ ! -e "$shared" ]; then
    cp "$archive" "$shared.$(hostname).part"
    mv "$shared.$(hostname).part" "$shared"
  fi
done
END

# The first process of the container; systemd takes its place.
cat >/usr/local/sbin/host-init <<'END'
#!/bin/sh
set -eu
# The kernel belongs to the machine: only the settings of the host's own network can be written.
mount --bind /proc/sys /proc/sys
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,ro /proc/sys
# The network namespace outlives the boot; what was set in it by hand does not, on a server.
echo 4096 >/proc/sys/net/core/somaxconn
# Every start of the container is a boot, for Ansible and for the journal.
tr -d '\n' </proc/sys/kernel/random/uuid >/run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
[ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
printf '%s\n' "${AUTHORIZED_KEY:-}" >/etc/ssh/authorized_keys
unset AUTHORIZED_KEY
for archive in /var/cache/shared/apt/*.deb; do
  [ ! -e "$archive" ] || cp -n "$archive" /var/cache/apt/archives/
done
exec /lib/systemd/systemd
END
chmod 0755 /usr/local/sbin/share-archives /usr/local/sbin/host-init
