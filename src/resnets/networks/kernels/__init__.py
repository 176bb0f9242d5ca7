"""Fused CPU steps for training: batch norm with the residual's sum and ReLU in one pass, and max pooling.

PyTorch runs norm, sum and ReLU one after the other, each with its own trip through memory. `norm_act` and
`max_pool` give the same values and gradients, and take PyTorch's own steps wherever the kernels cannot run. They
are off until `use(True)`: a run records which kernels made its bits.
"""

from resnets.networks.kernels.norm import norm_act
from resnets.networks.kernels.pool import max_pool
from resnets.networks.kernels.switch import available, state, use, using

__all__ = ["available", "max_pool", "norm_act", "state", "use", "using"]
