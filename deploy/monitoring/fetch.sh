#!/bin/sh
# Download Debian's Prometheus and unpack it into artifacts/prometheus, for the tests. An installed
# package would start its own server, on the port of this service (9090).
set -eu
cd "$(dirname "$0")/../.."
mkdir -p artifacts/prometheus
cd artifacts/prometheus
[ -x usr/bin/prometheus ] || { apt-get download -qq prometheus && dpkg-deb --extract prometheus_*.deb .; }
