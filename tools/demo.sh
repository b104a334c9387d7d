#!/usr/bin/env bash
# From nothing to a trained detector: generate shapes, train Mask R-CNN with a small QuadMamba
# from scratch, test it, draw curves and predictions. Run it again after an interruption: it
# continues with the last checkpoint.
#
# usage: [WORK_DIR=work_dirs/demo] [DATA_ROOT=data/shapes_coco] [PYTHON=python] tools/demo.sh
#        [options of tools/train.py]
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=$tools/../configs/mmdet/quadmamba/mask-rcnn_quadmamba-demo_fpn_shapes.py
: "${WORK_DIR:=work_dirs/demo}" "${DATA_ROOT:=data/shapes_coco}" "${PYTHON:=python}"
export PYTHON PYTHONPATH="${tools%/tools}${PYTHONPATH:+:$PYTHONPATH}"

# Two processes on CPUs and on several GPUs, one on a single GPU; always four images per step.
gpus=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
processes=$((gpus == 1 ? 1 : 2))

"$PYTHON" "$tools/generate_shapes.py" --root "$DATA_ROOT"

bash "$tools/dist_train.sh" "$config" "$processes" --work-dir "$WORK_DIR" \
  --data-root "$DATA_ROOT" --resume auto "$@" \
  --cfg-options train_dataloader.batch_size=$((4 / processes))

# The last one: picking the best on the test images would flatter the result.
checkpoint=$(<"$WORK_DIR/last_checkpoint")
bash "$tools/dist_test.sh" "$config" "$checkpoint" "$processes" --work-dir "$WORK_DIR/test" \
  --data-root "$DATA_ROOT" --out "$WORK_DIR/results.pkl"

"$PYTHON" "$tools/draw_training_curves.py" "$WORK_DIR" --out "$WORK_DIR/training_curves.png"
"$PYTHON" "$tools/draw_detection_sheet.py" "$WORK_DIR/results.pkl" \
  "$DATA_ROOT/annotations/instances_val2017.json" --out "$WORK_DIR/detection_sheet.png"

runs=("$WORK_DIR"/test/*/) # named by time
run=${runs[-1]%/}
metrics=$run/${run##*/}.json
"$PYTHON" - "$metrics" <<'PYTHON_CODE'
import json
import sys

metrics = json.load(open(sys.argv[1]))
print(f"\nbox AP {metrics['coco/bbox_mAP']:.3f}, mask AP {metrics['coco/segm_mAP']:.3f}")
PYTHON_CODE
echo "checkpoint   $checkpoint"
echo "curves       $WORK_DIR/training_curves.png"
echo "predictions  $WORK_DIR/detection_sheet.png"
