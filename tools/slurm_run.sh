#!/usr/bin/env bash
# Start a tool of this folder by srun: slurm_run.sh PARTITION JOB_NAME TOOL.py ARGS...
# Used by slurm_train.sh and slurm_test.sh, which document the environment variables.
set -euo pipefail

partition=$1
job_name=$2
tool="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/$3"
shift 3

: "${PYTHON:=python}" "${GPUS:=8}" "${CPUS_PER_TASK:=5}"
: "${GPUS_PER_NODE:=$((GPUS < 8 ? GPUS : 8))}"
root=$(dirname "$(dirname "$tool")")
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
if [[ -n ${PORT:-} ]]; then
  export MASTER_PORT=$PORT
fi
# Several options may be given in one variable, so this one is split at blanks.
read -r -a srun_args <<<"${SRUN_ARGS:-}"

exec srun --partition="$partition" --job-name="$job_name" --gres="gpu:$GPUS_PER_NODE" \
  --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="$CPUS_PER_TASK" \
  --kill-on-bad-exit=1 ${srun_args[@]+"${srun_args[@]}"} \
  "$PYTHON" -u "$tool" "$@" --launcher slurm
