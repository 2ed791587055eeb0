"""Kernels: a folder an operation, each with a plain-PyTorch reference, its fast paths and a torch.library op."""
