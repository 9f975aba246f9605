#!/bin/sh
# jericho (for ALFWorld) is compiled, and ScienceWorld runs on Java: install what is missing, or say it.
set -eu

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need gcc gcc
need g++ g++
need java openjdk-17-jre-headless
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -q
    # shellcheck disable=SC2086 # a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
else
    echo "missing system packages: sudo apt-get install$missing (or their like), then make again" >&2
    exit 1
fi
