#!/bin/sh
# Runs as root inside the new root file system, as the last step of both ways to build: what every Glovebox image has in
# common, and nothing that depends on the machine or the moment. Usage: finish.sh SUITE
set -eu
suite=$1

# The tools' user. Lines are written, not useradd: the result must not depend on today's date.
grep -q '^agent:' /etc/passwd || {
  echo 'agent:x:10001:10001:agent:/home/agent:/bin/bash' >>/etc/passwd
  echo 'agent:x:10001:' >>/etc/group
  echo 'agent:!:::::::' >>/etc/shadow
  [ ! -e /etc/gshadow ] || echo 'agent:!::' >>/etc/gshadow
}
awk -F: 'BEGIN { OFS = ":" } { $3 = ""; print }' /etc/shadow >/etc/shadow.new
cat /etc/shadow.new >/etc/shadow
rm /etc/shadow.new
mkdir -p /home/agent /workspace /.glovebox
chown 10001:10001 /home/agent /workspace
chmod 0755 /home/agent /workspace /.glovebox

# The sources of the Debian default, whatever mirror and proxy this build went through.
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99mmdebstrap
cat >/etc/apt/sources.list.d/debian.sources <<EOF
Types: deb
URIs: http://deb.debian.org/debian
Suites: $suite $suite-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: $suite-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF

# C.UTF-8 in one file: almost every command loads its locale, and twelve files take it a fifth of a millisecond longer.
rm -f /usr/lib/locale/locale-archive
localedef --no-hard-links --add-to-archive /usr/lib/locale/C.utf8
chmod 0644 /usr/lib/locale/locale-archive

# Nobody becomes root through a file.
find / -xdev -type f -perm /6000 -exec chmod u-s,g-s {} +

# What differs from build to build, and what nobody needs.
rm -f /etc/machine-id /var/lib/dbus/machine-id /etc/.pwd.lock
rm -f /etc/hostname /etc/resolv.conf 2>/dev/null || true # mounted by the engine in a Dockerfile's build, left out there afterwards
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-
rm -f /var/lib/dpkg/*-old /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/* /root/.cache /root/.wget-hsts
find /var/log -type f -delete
rm -f /finish.sh
