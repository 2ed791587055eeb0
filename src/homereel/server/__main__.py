"""`python -m homereel.server` is what `homereel serve` starts."""

from homereel.server.main import main

main()
