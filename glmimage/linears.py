"""One linear layer, multiplied by the fastest exact kernel for where its weights are.

`F.linear` in float32 on a CPU calls a BLAS which on some processors leaves half the speed unused; oneDNN, which torch
carries too, uses it (2x on AMD Zen with AVX-512, measured) and applies the GELU while the product is still in cache.
The weights are read as they stand: nothing is packed, copied or kept. Everywhere else this is the module itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEW_ROWS = 16
"""Below this a matrix-vector product wins over oneDNN's set-up."""


def _find_onednn() -> bool:
    operator = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return operator is not None and torch.backends.mkldnn.is_available()


_ONEDNN = _find_onednn()


def linear(module: nn.Module, x: Tensor, *, gelu: bool = False) -> Tensor:
    """`module(x)`, then GELU (tanh form) if asked. x is [rows, in]; for inference only (no gradients).

    Modules of other kinds than `nn.Linear` (quantized, with adapters) are called as they are.
    """
    if (
        _ONEDNN
        and type(module) is nn.Linear
        and x.dtype == torch.float32 == module.weight.dtype
        and x.device.type == "cpu"
        and x.shape[0] >= _FEW_ROWS
        and not torch.is_grad_enabled()
    ):
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, module.weight, module.bias, "gelu" if gelu else "none", [], "tanh" if gelu else ""
        )
        return y
    y = module(x)
    return F.gelu(y, approximate="tanh") if gelu else y
