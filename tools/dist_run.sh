#!/usr/bin/env bash
# Start a tool of this folder in several processes: dist_run.sh TOOL.py NUM_PROCESSES ARGS...
# Used by dist_train.sh and dist_test.sh, which document the environment variables.
set -euo pipefail

tool="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/$1"
processes=$2
shift 2

case $processes in
  '' | *[!0-9]* | 0) echo "The number of processes must be a positive integer, got: '$processes'" >&2; exit 2 ;;
esac
: "${PYTHON:=python}" "${NNODES:=1}" "${NODE_RANK:=0}" "${MASTER_ADDR:=127.0.0.1}"

# A checkout that is not installed works too.
root=$(dirname "$(dirname "$tool")")
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

# What can be found wrong is found here, once, instead of as a traceback of each process.
"$PYTHON" "$tool" "$@" --check || exit $?

# On GPUs the launcher's default of one thread per process is right; CPU processes share the cores.
if [[ -z ${OMP_NUM_THREADS:-} ]] && ! nvidia-smi >/dev/null 2>&1; then
  threads=$(($(nproc) / processes))
  export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
  export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"
fi

if [[ -n ${PORT:-} || $NNODES != 1 ]]; then
  rendezvous=(--nnodes="$NNODES" --node_rank="$NODE_RANK"
    --master_addr="$MASTER_ADDR" --master_port="${PORT:-29500}")
else
  # One machine and no port asked for: the launcher takes one that is free.
  rendezvous=(--standalone --local_addr=127.0.0.1)
fi

exec "$PYTHON" -m torch.distributed.run "${rendezvous[@]}" --nproc_per_node="$processes" \
  "$tool" "$@" --launcher pytorch
