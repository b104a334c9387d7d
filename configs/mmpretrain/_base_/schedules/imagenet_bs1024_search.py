"""The direction search: LocalMamba's schedule for 100 epochs; the weights of directions decay too.

They are trained by the same optimizer on the same images, without temperature (paper, section 3.4).
"""

_base_ = "./imagenet_bs1024_adamw_localmamba.py"

# Vectors do not decay otherwise.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"combine.alpha": dict(decay_mult=1.0)}))
train_cfg = dict(max_epochs=100)
