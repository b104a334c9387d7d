"""Which parameters weight decay must leave alone, said by the layers that define them."""

from torch import nn

__all__ = ["exempt_from_decay", "exempt_parameters"]


def exempt_from_decay(module: nn.Module, *names: str) -> None:
    """Declare that no weight decay may pull these parameters of ``module`` towards zero.

    The declaration stands on the module, which keeps it through ``copy.deepcopy``, pickling and
    FSDP, all of which replace parameters. Each parameter also gets ``_no_weight_decay = True``, as
    in mamba_ssm, for optimizers from elsewhere that look for that.

    Args:
        module: Has the parameters itself, not in a submodule.
        names: Of the parameters.

    Raises:
        ValueError: The module has no parameter of that name.
    """
    own = dict(module.named_parameters(recurse=False))
    unknown = [name for name in names if name not in own]
    if unknown:
        raise ValueError(
            f"exempt_from_decay takes parameters of the module itself, {list(own)} in "
            f"{type(module).__name__}, got {unknown}"
        )
    for name in names:
        own[name]._no_weight_decay = True  # type: ignore[attr-defined]
    module.undecayed = (  # type: ignore[assignment]
        *getattr(module, "undecayed", ()),
        *names,
    )


def exempt_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """All parameters of ``model`` that are declared exempt, or carry mamba_ssm's mark, by name.

    Example:
        >>> from mmquad.layers import SelectiveSSM
        >>> sorted(exempt_parameters(SelectiveSSM(8, d_state=2, dt_rank=1, directions=4)))
        ['A_log', 'D_skip', 'dt_bias']
    """
    exempt = {}
    for prefix, module in model.named_modules():
        declared = getattr(module, "undecayed", ())
        for name, parameter in module.named_parameters(recurse=False):
            if name in declared or getattr(parameter, "_no_weight_decay", False):
                exempt[f"{prefix}.{name}" if prefix else name] = parameter
    return exempt
