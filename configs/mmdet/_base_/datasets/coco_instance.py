"""mmdet's COCO instances; workers are seeded anew each epoch, so resumed runs continue exactly."""

_base_ = "mmdet::_base_/datasets/coco_instance.py"

train_dataloader = dict(persistent_workers=False, worker_init_fn=dict(type="mmquad.seed_worker"))
