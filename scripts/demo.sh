#!/usr/bin/env bash
# The main job, shown: up, submit job.py, autoscale 0 -> n -> 0, down. Leaves nothing behind.
set -euo pipefail

work=$(mktemp -d)
export CLUSTERCTL_HOME="$work/home"
cd "$work"

finish() {
  code=$?
  if [ -e "$CLUSTERCTL_HOME/clusters" ] && [ -n "$(ls -A "$CLUSTERCTL_HOME/clusters")" ]; then clusterctl down -y || true; fi
  rm -rf "$work"
  exit $code
}
trap finish EXIT

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say "$@"; "$@"; }

workers() { clusterctl status --json | python3 -c 'import json,sys; print(sum(n["role"] == "worker" for n in json.load(sys.stdin)["nodes"]))'; }

run clusterctl init --provider local
run clusterctl up cluster.yaml -y
echo "workers: $(workers)"
run clusterctl submit job.py
run clusterctl submit -- python3 -c 'print("a plain job of the durable queue")'
run clusterctl status
say "waiting until the idle workers are drained and removed"
for _ in $(seq 120); do
  left=$(workers)
  [ "$left" = 0 ] && break
  sleep 1
done
[ "$left" = 0 ] || { echo "workers are still here: $left" >&2; exit 1; }
run clusterctl events
run clusterctl status
run clusterctl down -y
echo
echo "demo done: 0 -> n -> 0 workers, and nothing is left"
