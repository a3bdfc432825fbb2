"""`python -m runtime.cli`: the same as the `treering` script."""

from runtime.cli import main

if __name__ == "__main__":
    main()
