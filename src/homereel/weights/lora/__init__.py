"""LoRA files: what they are, which layers of a network they change, and how they are put into one."""
