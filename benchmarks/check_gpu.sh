#!/usr/bin/env bash
# Everything that needs a GPU, in one go: compile the kernels, test every backend on the device,
# look for memory errors and races, compare with float64, measure.
#
# usage: [PYTHON=python] [WORK_DIR=work_dirs/check_gpu] benchmarks/check_gpu.sh [--dry-run]
#
# --dry-run prints the commands instead. A step that fails does not stop the next one; the end says
# which did, and where each one's output is. compute-sanitizer comes with the CUDA toolkit; without
# it its steps are left out.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
: "${PYTHON:=python}" "${WORK_DIR:=work_dirs/check_gpu}"
dry_run=
case ${1:-} in
  --dry-run) dry_run=yes ;;
  '') ;;
  *) echo "usage: [PYTHON=] [WORK_DIR=] benchmarks/check_gpu.sh [--dry-run], got: '$1'" >&2; exit 2 ;;
esac

results=()
failures=0

# step NAME COMMAND...: runs it, keeps its output in WORK_DIR/NAME.log.
step() {
  local name=$1 log=$WORK_DIR/$1.log status
  shift
  if [[ $dry_run ]]; then
    echo "$name: $*"
    return
  fi
  echo "== $name: $*"
  "$@" 2>&1 | tee "$log" | tail -n 20
  status=${PIPESTATUS[0]}
  if ((status == 0)); then
    results+=("ok      $name  $log")
  else
    results+=("FAILED  $name  $log (status $status)")
    failures=$((failures + 1))
  fi
}

if [[ ! $dry_run ]]; then
  "$PYTHON" -c "import torch; assert torch.cuda.is_available(), 'torch sees no CUDA device'" || exit 1
  mkdir -p "$WORK_DIR"
fi

step machine nvidia-smi
# For this GPU alone unless TORCH_CUDA_ARCH_LIST says otherwise: the others would only take time.
capability='import torch; print("%d.%d" % torch.cuda.get_device_capability())'
[[ $dry_run ]] || : "${TORCH_CUDA_ARCH_LIST:=$("$PYTHON" -c "$capability")}"
step install env MMQUAD_WITH_CUDA=1 ${TORCH_CUDA_ARCH_LIST:+TORCH_CUDA_ARCH_LIST="$TORCH_CUDA_ARCH_LIST"} \
  "$PYTHON" -m pip install -v --no-build-isolation --no-deps --force-reinstall ./kernels
step backends "$PYTHON" -m mmquad.info
step tests "$PYTHON" -m pytest tests/ops tests/kernels tests/mmcv_ops

if [[ $dry_run ]] || command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck synccheck; do
    # PyTorch's allocator would hand out parts of large blocks, whose ends nobody watches.
    step "$tool" env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" \
      --error-exitcode 1 "$PYTHON" -m pytest -p no:faulthandler \
      tests/kernels/test_cuda_device.py::test_compiled_kernels
  done
else
  results+=("left out: compute-sanitizer is not on PATH")
fi

step precision "$PYTHON" -m benchmarks.check_scan --device cuda --lengths 1 49 784 3136
step benchmark_scan "$PYTHON" -m benchmarks.benchmark_scan --device cuda --output "$WORK_DIR"
step benchmark_backbone "$PYTHON" -m benchmarks.benchmark_backbone --device cuda --output "$WORK_DIR"

[[ $dry_run ]] && exit 0
printf '\nResults in %s\n' "$WORK_DIR"
printf '%s\n' "${results[@]}"
exit $((failures > 0))
