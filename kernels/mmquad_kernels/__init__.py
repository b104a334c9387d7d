"""Native kernels of mmquad. Importing registers ``torch.ops.mmquad_kernels``; nothing else."""

import torch  # noqa: F401 - its shared libraries must be loaded before ours

from mmquad_kernels import _C  # noqa: F401

__version__ = "0.1.0"
