"""`python -m nilometer` is the `nilometer` command."""

from nilometer.cli import main

if __name__ == "__main__":
    main()
