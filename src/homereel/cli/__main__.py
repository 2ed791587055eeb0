"""`python -m homereel.cli` is `homereel`."""

from homereel.cli.app import main

main()
