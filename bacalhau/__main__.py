"""`python -m bacalhau` is the command `bacalhau`."""

from bacalhau.cli.main import main

if __name__ == "__main__":
    main()
