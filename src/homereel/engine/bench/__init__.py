"""Prompt to file, both ways on one machine: diffusers' own pipeline against homereel, each in a process of its own."""
