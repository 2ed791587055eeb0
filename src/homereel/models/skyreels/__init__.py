"""SkyReels V2, long films: an adapter over diffusers' networks; `open.py` is its door."""
