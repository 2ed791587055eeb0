"""Floor 2: what a clip will take on a machine, told from shapes and figures before anything is loaded."""
