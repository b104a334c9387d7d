"""AdamW for 25 epochs (184k iterations of 16 images), rates falling towards the first layers.

ViTDet's 0.7 per layer of 12 would leave the first of 20 layers next to nothing; 0.8 gives it the
same rate as there.
"""

_base_ = "./adamw_1x.py"

train_cfg = dict(max_epochs=25)
optim_wrapper = dict(
    clip_grad=dict(max_norm=35, norm_type=2),
    paramwise_cfg=dict(layer_decay_rate=0.8),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", begin=0, end=25, by_epoch=True, milestones=[22, 24], gamma=0.1),
]
