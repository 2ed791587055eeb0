"""Floor 0: what is asked for, what is promised, what comes back. Nothing here imports torch."""
