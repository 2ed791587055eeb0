"""Wan 2.1 and 2.2: an adapter over diffusers' networks; `open.py` is its door."""
