"""HunyuanVideo 1.5: an adapter over diffusers' networks; `open.py` is its door."""
