"""AdamW, 1e-3 at total batch 1024, 300 epochs of which 20 warm up, clip 5; weights averaged."""

_base_ = "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py"

optim_wrapper = dict(
    clip_grad=dict(max_norm=5.0),
    # The base spares norms, biases and vectors; these have more dimensions.
    paramwise_cfg=dict(
        custom_keys={
            "A_log": dict(decay_mult=0.0),
            "D_skip": dict(decay_mult=0.0),
            "dt_bias": dict(decay_mult=0.0),
            "conv_bias": dict(decay_mult=0.0),
            "direction_B": dict(decay_mult=0.0),
            "positions": dict(decay_mult=0.0),
            "class_token": dict(decay_mult=0.0),
        },
    ),
)
