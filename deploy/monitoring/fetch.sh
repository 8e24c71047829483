#!/bin/sh
# Debian's Prometheus, unpacked into artifacts/prometheus for the tests. Installed as a package, it
# would start a server of its own, on the port of this service.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p artifacts/prometheus
cd artifacts/prometheus
[ -x usr/bin/prometheus ] || { apt-get download -qq prometheus && dpkg-deb --extract prometheus_*.deb .; }
