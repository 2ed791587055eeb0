"""A process that is locked in: it computes an answer from bytes, and reaches no file, no network, no other process."""
