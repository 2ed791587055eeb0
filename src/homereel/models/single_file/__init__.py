"""Models out of single files: which network a file holds, what its tensors are called here, what goes around it."""
