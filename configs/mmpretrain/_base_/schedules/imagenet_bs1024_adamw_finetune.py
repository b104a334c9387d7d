"""30 epochs at a constant 1e-5, weight decay 1e-8: how Vim's stride-8 models are fine-tuned."""

_base_ = "./imagenet_bs1024_adamw.py"

optim_wrapper = dict(optimizer=dict(lr=1e-5, weight_decay=1e-8), clip_grad=None)
param_scheduler = [dict(type="ConstantLR", factor=1.0, by_epoch=True)]
train_cfg = dict(max_epochs=30)
