"""The command line: a client of the API, plus the commands that work offline."""


def main() -> None:
    """Run the `nilometer` command."""
    from nilometer.cli.app import app

    app()
