"""The custom operator behind `sparse_linear_attention`: its paths, the shapes told to the compiler, its gradients.

torch.compile sees one opaque node; what runs inside is chosen by the tensors' device when it runs.
"""
# ruff: noqa: ARG001, PLR0917 - the functions of an operator share its schema, which is positional

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from homereel.core.errors import UnsupportedPass
from homereel.kernels.sparse_linear_attention import cpu
from homereel.kernels.sparse_linear_attention.blocks import block_map, num_blocks_of
from homereel.kernels.sparse_linear_attention.limits import support
from homereel.kernels.sparse_linear_attention.linear import linear_branch_backward


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    proj_weight: Tensor | None,
    proj_bias: Tensor | None,
    num_kept: int,
    block_q: int,
    block_k: int,
    eight_bit: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """out; and if `save`: o_s where it differs from out, log-sum-exp, kept blocks. What is not needed is empty.

    For a CPU without `save`, which needs no operator: the dispatcher takes a tenth of a short clip's attention.
    """
    reason = _reason_against_triton(q, eight_bit=eight_bit)
    if eight_bit and reason is not None:
        raise UnsupportedPass(reason)
    sizes: dict[str, Any] = {"num_kept": num_kept, "block_q": block_q, "block_k": block_k}
    proj: dict[str, Any] = {"proj_weight": proj_weight, "proj_bias": proj_bias}
    if reason is not None:
        return _gathered(q, k, v, **sizes, **proj, save=save)
    from homereel.kernels.sparse_linear_attention import triton

    with torch.cuda.device(q.device):
        if eight_bit:
            out = triton.forward_eight_bit(q, k, v, **sizes, **proj)
            return out, out.new_empty(0), _no_lse(q), q.new_empty(0, dtype=torch.int32)
        return triton.forward(q, k, v, **sizes, **proj, save=save)


attention_operator = torch.library.custom_op("homereel::sparse_linear_attention", attention, mutates_args=())


def _reason_against_triton(q: Tensor, *, eight_bit: bool = False) -> str | None:
    """Why plain PyTorch computes this; None if a kernel does."""
    if not q.is_cuda:
        return support(q.device.type, q.shape[-1], q.dtype, eight_bit=eight_bit) or "kernels run on NVIDIA GPUs only"
    if torch.version.cuda is None:
        return "sparse attention has kernels for NVIDIA GPUs only; use it without 8 bits"
    return support(torch.cuda.get_device_capability(q.device), q.shape[-1], q.dtype)


def _gathered(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    num_kept: int,
    block_q: int,
    block_k: int,
    proj_weight: Tensor | None,
    proj_bias: Tensor | None,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    kept = block_map(q, k, num_kept=num_kept, block_q=block_q, block_k=block_k)
    sizes = {"block_q": block_q, "block_k": block_k}
    if not save:
        out = cpu.attend(q, k, v, kept, **sizes, weight=proj_weight, bias=proj_bias)
        return out, out.new_empty(0), _no_lse(q), kept.new_empty(0)
    sparse, lse = cpu.forward(q, k, v, kept, **sizes)
    if proj_weight is None:
        return sparse, sparse.new_empty(0), lse, kept
    out = cpu.with_linear_branch(sparse, q, k, v, weight=proj_weight, bias=proj_bias)
    return out, sparse, lse, kept


def _no_lse(q: Tensor) -> Tensor:
    return q.new_empty(0, dtype=cpu.accumulator(q.dtype))


@attention_operator.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    proj_weight: Tensor | None,
    proj_bias: Tensor | None,
    num_kept: int,
    block_q: int,
    block_k: int,
    eight_bit: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, length, heads, _ = q.shape
    out = q.new_empty(q.shape)
    sparse = q.new_empty(q.shape if save and proj_weight is not None else (0,))
    if not save:
        return out, sparse, _no_lse(q), q.new_empty(0, dtype=torch.int32)
    kept = q.new_empty((batch, heads, num_blocks_of(length, block=block_q), num_kept), dtype=torch.int32)
    return out, sparse, q.new_empty((batch, heads, length), dtype=cpu.accumulator(q.dtype)), kept


@torch.library.custom_op("homereel::sparse_linear_attention_backward", mutates_args=())
def backward_operator(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    proj_weight: Tensor | None,
    sparse: Tensor,
    lse: Tensor,
    kept: Tensor,
    block_q: int,
    block_k: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, weight and bias; the last two are empty without a weight."""
    rest: dict[str, Any] = {"sparse_BLHD": sparse, "lse_BHL": lse, "block_q": block_q, "block_k": block_k}
    if _reason_against_triton(q) is not None:
        grads = cpu.backward(grad, q, k, v, kept, **rest)
    else:
        from homereel.kernels.sparse_linear_attention import triton

        with torch.cuda.device(q.device):
            grads = triton.backward(grad, q, k, v, kept, **rest)
    if proj_weight is None:
        grad_weight, grad_bias = q.new_empty(0), q.new_empty(0)
    else:
        grad_weight, grad_bias = _add_linear_gradients(grads, grad, q, k, v, weight=proj_weight)
    grad_q, grad_k, grad_v = (x.to(q.dtype) for x in grads)
    return grad_q, grad_k, grad_v, grad_weight, grad_bias


def _add_linear_gradients(
    grads: tuple[Tensor, Tensor, Tensor], grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Add what flows through the linear branch, a head at a time to save memory; return those of weight and bias."""
    dtype = cpu.accumulator(q.dtype)
    grad_weight = torch.zeros_like(weight, dtype=dtype)
    grad_bias = torch.zeros_like(grad_weight[0])
    for head in range(q.shape[2]):
        here = (x[:, :, head] for x in (grad, q, k, v))
        *grads_qkv, of_weight, of_bias = linear_branch_backward(*here, weight_ED=weight)
        for total, part in zip(grads, grads_qkv, strict=True):
            total[:, :, head] += part
        grad_weight += of_weight
        grad_bias += of_bias
    return grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)


@backward_operator.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    proj_weight: Tensor | None,
    sparse: Tensor,
    lse: Tensor,
    kept: Tensor,
    block_q: int,
    block_k: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    like = q.new_empty
    if proj_weight is None:
        return like(q.shape), like(q.shape), like(q.shape), like(0), like(0)
    size = proj_weight.shape[0]
    return like(q.shape), like(q.shape), like(q.shape), proj_weight.new_empty((size, size)), proj_weight.new_empty(size)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, proj_weight, proj_bias, _, ctx.block_q, ctx.block_k, _, _ = inputs
    out, sparse, lse, kept = output
    ctx.has_bias = proj_bias is not None
    ctx.save_for_backward(q, k, v, proj_weight, out if proj_weight is None else sparse, lse, kept)
    ctx.mark_non_differentiable(sparse, lse, kept)


def _gradients(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    q, k, v, proj_weight, sparse, lse, kept = ctx.saved_tensors
    grad_q, grad_k, grad_v, grad_weight, grad_bias = backward_operator(
        grad, q, k, v, proj_weight, sparse, lse, kept, ctx.block_q, ctx.block_k
    )
    has_weight = proj_weight is not None
    of_proj = (grad_weight if has_weight else None, grad_bias if ctx.has_bias else None)
    return grad_q, grad_k, grad_v, *of_proj, None, None, None, None, None


attention_operator.register_autograd(_gradients, setup_context=_remember)
