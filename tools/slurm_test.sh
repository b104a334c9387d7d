#!/usr/bin/env bash
set -euo pipefail

if [[ $# -lt 4 || $1 == -* ]]; then
  cat >&2 <<USAGE
Test on a slurm cluster, one process per GPU.

usage: [VARIABLE=value ...] $0 PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]

Variables: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS (more options of srun),
PORT (29500), PYTHON (python).
USAGE
  exit 2
fi

partition=$1
job_name=$2
config=$3
checkpoint=$4
shift 4
exec bash "$(dirname "${BASH_SOURCE[0]}")/slurm_run.sh" "$partition" "$job_name" test.py \
  "$config" "$checkpoint" "$@"
