"""Parts of the names of parameters that no recipe decays: state-space ones, positions, norms."""

no_decay = {
    "A_log": dict(decay_mult=0.0),
    "D_skip": dict(decay_mult=0.0),
    "dt_bias": dict(decay_mult=0.0),
    "conv_bias": dict(decay_mult=0.0),
    "direction_B": dict(decay_mult=0.0),
    "positions": dict(decay_mult=0.0),
    "class_token": dict(decay_mult=0.0),
    # RMSNorm is no norm to mmengine
    "norm": dict(decay_mult=0.0),
}
