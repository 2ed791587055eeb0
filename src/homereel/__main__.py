"""`python -m homereel` is the command `homereel`."""

from homereel.cli import main

if __name__ == "__main__":
    main()
