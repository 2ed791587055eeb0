"""Floor 3: the only door to a clip. `generate` makes one, `replay` again; a Session keeps models warm."""
