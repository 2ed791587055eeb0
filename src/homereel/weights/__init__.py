"""Floor 1: model files on disk. Past this door there is only safetensors with a checked header."""
