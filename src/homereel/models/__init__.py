"""Floor 2: one small file a family, and the catalogue of what exists."""
