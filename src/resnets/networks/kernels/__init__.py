"""Faster CPU steps. For training: batch norm, the residual's sum and the activation in one pass, and its gradient;
max pooling; and convolutions with their gradients on bf16 matrix units.

PyTorch runs a norm, a sum and an activation one after the other, each with its own trip through memory. `norm_act`
gives the same values and gradients, and takes PyTorch's own steps wherever the kernels cannot run; `convolve`,
`convolve_and_pass` and `max_pool` give None there. They are off until `use(True)`: a run records which kernels
made its bits. For inference `convolution` has the norm inside a convolution.
"""

from resnets.networks.kernels.matrix_units import convolve, convolve_and_pass
from resnets.networks.kernels.norm import norm_act
from resnets.networks.kernels.pool import max_pool
from resnets.networks.kernels.switch import available, state, use, using

__all__ = ["available", "convolve", "convolve_and_pass", "max_pool", "norm_act", "state", "use", "using"]
