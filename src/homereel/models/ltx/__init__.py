"""LTX-2, with sound: an adapter over diffusers' networks; `open.py` is its door."""
