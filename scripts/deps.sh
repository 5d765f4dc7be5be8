#!/bin/sh
# Installs by name what the tests need on Debian: PostgreSQL, Redis, Chromium with fonts, Python for the stock clients. Safe to repeat.
set -eu
[ "$(id -u)" = 0 ] || { echo "scripts/deps.sh needs root (apt-get)"; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt="apt-get -o DPkg::Lock::Timeout=300 -qq"
missing=""
for p in postgresql-15 redis-server nginx-light chromium fonts-noto-cjk fonts-noto-color-emoji python3-venv git g++ make; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
  $apt update
  $apt install -y --no-install-recommends postgresql-common >/dev/null
  # The tests start servers of their own on private ports: no system cluster.
  sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
  $apt install -y --no-install-recommends $missing >/dev/null
fi
