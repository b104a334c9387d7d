#!/usr/bin/env bash
# From nothing to a trained segmentation model: generate shapes, train UperNet with a small QuadMamba
# from scratch, test it, draw curves and predictions. Run it again after an interruption: it
# continues with the last checkpoint.
#
# usage: [WORK_DIR=work_dirs/demo_segmentation] [DATA_ROOT=data/shapes_ade] [PYTHON=python]
#        tools/demo_segmentation.sh [options of tools/train.py]
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=$tools/../configs/mmseg/quadmamba/upernet_quadmamba-demo_shapes.py
: "${WORK_DIR:=work_dirs/demo_segmentation}" "${DATA_ROOT:=data/shapes_ade}" "${PYTHON:=python}"
export PYTHON PYTHONPATH="${tools%/tools}${PYTHONPATH:+:$PYTHONPATH}"

# Two processes on CPUs and on several GPUs, one on a single GPU; always 8 images per step.
gpus=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
processes=$((gpus == 1 ? 1 : 2))

"$PYTHON" "$tools/generate_shapes.py" --format ade20k --root "$DATA_ROOT"

bash "$tools/dist_train.sh" "$config" "$processes" --work-dir "$WORK_DIR" \
  --data-root "$DATA_ROOT" --resume auto "$@" \
  --cfg-options train_dataloader.batch_size=$((8 / processes))

# The last one: picking the best on the test images would flatter the result.
checkpoint=$(<"$WORK_DIR/last_checkpoint")
results=$WORK_DIR/predictions
bash "$tools/dist_test.sh" "$config" "$checkpoint" "$processes" --work-dir "$WORK_DIR/test" \
  --data-root "$DATA_ROOT" --out "$results"

"$PYTHON" "$tools/draw_training_curves.py" "$WORK_DIR" --metrics mIoU \
  --out "$WORK_DIR/training_curves.png"
"$PYTHON" "$tools/draw_segmentation_sheet.py" "$DATA_ROOT" "$results" \
  --out "$WORK_DIR/segmentation_sheet.png"

runs=("$WORK_DIR"/test/*/) # named by time
run=${runs[-1]%/}
"$PYTHON" - "$run/${run##*/}.json" <<'PYTHON_CODE'
import json
import sys

metrics = json.load(open(sys.argv[1]))
print(f"\nmIoU on held-out images: {metrics['mIoU']:.1f} %")
PYTHON_CODE
echo "checkpoint   $checkpoint"
echo "curves       $WORK_DIR/training_curves.png"
echo "predictions  $WORK_DIR/segmentation_sheet.png"
