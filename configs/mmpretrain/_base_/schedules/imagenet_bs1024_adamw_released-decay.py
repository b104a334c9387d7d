"""As imagenet_bs1024_adamw, with the weight decay of the VMamba release: it decays A and dt_bias.

Its rule spares vectors and what is called bias; A_logs and dt_projs_bias are matrices there.
"""

_base_ = "./imagenet_bs1024_adamw.py"

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={"A_log": dict(decay_mult=1.0), "dt_bias": dict(decay_mult=1.0)}
    ),
)
