"""The linear branch: every token meets every other through one D × D state, in plain PyTorch, forward and backward.

With φ the softmax over D: y = proj(φ(q) (φ(k)ᵀ v) / (ε + φ(q) Σφ(k))). The projection is folded into the state,
(φ(k)ᵀ v) Wᵀ, which costs D³ instead of L·D². Here a head is a matrix: N is batch × heads, L tokens, D and E head
size, before and after the projection.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-5


def add_linear_branch(
    out_NLE: Tensor,
    q_NLD: Tensor,
    k_NLD: Tensor,
    v_NLD: Tensor,
    *,
    weight_ED: Tensor,
    num_keys: int | None = None,
) -> None:
    """Add y without its bias, in place, in the dtype of q. From `num_keys` on keys are no tokens, and values are 0."""
    phi_k_NLD, phi_q_NLD = feature_map(k_NLD), feature_map(q_NLD)
    if num_keys is not None:
        phi_k_NLD[:, num_keys:] = 0
    state_NDE = (phi_k_NLD.mT @ v_NLD) @ weight_ED.to(v_NLD.dtype).mT
    sum_N1D = phi_k_NLD.sum(1, keepdim=True)
    if q_NLD.dtype == torch.float32:  # a third of the time, but in short numbers it would round every product
        weight_sum_NL1 = torch.linalg.vecdot(phi_q_NLD, sum_N1D).unsqueeze(-1)
    else:
        weight_sum_NL1 = phi_q_NLD @ sum_N1D.mT
    out_NLE.addcdiv_(phi_q_NLD @ state_NDE, weight_sum_NL1.add_(EPSILON))


def feature_map(x_NLD: Tensor) -> Tensor:
    """φ: softmax over the head size, which PyTorch reckons in float32 and rounds once to the dtype of x."""
    return x_NLD.softmax(-1)


def linear_branch_backward(
    grad_NLE: Tensor, q_NLD: Tensor, k_NLD: Tensor, v_NLD: Tensor, *, weight_ED: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, weight and bias, in the compute dtype (float32, or float64).

    With n = φ(q) S and d = ε + φ(q) z, where S is the state before the projection and z = Σφ(k): y = (n / d) Wᵀ + b.
    """
    dtype = torch.promote_types(q_NLD.dtype, torch.float32)
    grad_NLE, q_NLD, k_NLD, v_NLD, weight_ED = (x.to(dtype) for x in (grad_NLE, q_NLD, k_NLD, v_NLD, weight_ED))
    phi_q_NLD, phi_k_NLD = q_NLD.softmax(-1), k_NLD.softmax(-1)
    state_NDD, sum_N1D = phi_k_NLD.mT @ v_NLD, phi_k_NLD.sum(1, keepdim=True)
    d_NL1 = phi_q_NLD @ sum_N1D.mT + EPSILON
    mean_NLD = (phi_q_NLD @ state_NDD) / d_NL1

    grad_weight = torch.einsum("nle,nld->ed", grad_NLE, mean_NLD)
    grad_mean_NLD = grad_NLE @ weight_ED
    grad_n_NLD = grad_mean_NLD / d_NL1
    grad_d_NL1 = -(grad_n_NLD * mean_NLD).sum(-1, keepdim=True)
    grad_state_NDD, grad_sum_N1D = phi_q_NLD.mT @ grad_n_NLD, grad_d_NL1.mT @ phi_q_NLD
    grad_q = _softmax_backward(phi_q_NLD, grad_n_NLD @ state_NDD.mT + grad_d_NL1 * sum_N1D)
    grad_k = _softmax_backward(phi_k_NLD, v_NLD @ grad_state_NDD.mT + grad_sum_N1D)
    return grad_q, grad_k, phi_k_NLD @ grad_state_NDD, grad_weight, grad_NLE.sum((0, 1))


def _softmax_backward(y: Tensor, grad: Tensor) -> Tensor:
    return y * (grad - (y * grad).sum(-1, keepdim=True))
