"""`python -m wtl` is `wtl`; this is how torchrun starts it."""

from wtl.cli import main

if __name__ == "__main__":
    main()
