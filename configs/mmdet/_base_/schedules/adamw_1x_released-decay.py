"""As adamw_1x, with the weight decay of the VMamba release: all but what is called norm.

So the state-space parameters are decayed, the norm of the stem and the batch norms of heads. With
the current archs the release also decays the norms between stages: add the key "downsamples".
"""

_base_ = "./adamw_1x.py"

optim_wrapper = dict(
    constructor="DefaultOptimWrapperConstructor",  # spares nothing by itself
    paramwise_cfg=dict(
        _delete_=True,
        custom_keys={"norm": dict(decay_mult=0.0), "stem.norm": dict(decay_mult=1.0)},
    ),
)
