"""Floor 6: the command line. A command is one small file: words to a Request, a Result to lines."""

from homereel.cli.app import app, main

__all__ = ["app", "main"]
