"""AdamW, 1e-3 at total batch 1024, 300 epochs of which 20 warm up, clip 5; weights averaged."""

_base_ = "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py"

optim_wrapper = dict(
    clip_grad=dict(max_norm=5.0),
    # The base spares norms, biases and vectors; the constructor what has more dimensions.
    constructor="mmquad.StateSpaceOptimWrapperConstructor",
)
