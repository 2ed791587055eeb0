"""Files that PyTorch pickled (.pth): what they hold is found out in a locked process, their numbers are read here."""
