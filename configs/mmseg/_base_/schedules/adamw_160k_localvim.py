"""As adamw_160k; positions, the class token and the biases of all directions do not decay."""

_base_ = "./adamw_160k.py"

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "positions": dict(decay_mult=0.0),
            "class_token": dict(decay_mult=0.0),
            "conv_bias": dict(decay_mult=0.0),
        },
    ),
)
