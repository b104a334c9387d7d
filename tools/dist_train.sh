#!/usr/bin/env bash
set -euo pipefail

if [[ $# -lt 2 || $1 == -* ]]; then
  cat >&2 <<USAGE
Train in several processes: one per GPU, or on CPUs where there is no GPU.

usage: [VARIABLE=value ...] $0 CONFIG NUM_PROCESSES [options of tools/train.py]

NUM_PROCESSES is per machine. Variables: PYTHON (python), PORT (a free one), OMP_NUM_THREADS
(CPU: cores / NUM_PROCESSES); with several machines NNODES (1), NODE_RANK (0), MASTER_ADDR and
the same PORT (29500) on each.
USAGE
  exit 2
fi

config=$1
processes=$2
shift 2
exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" train.py "$processes" "$config" "$@"
