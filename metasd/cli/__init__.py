"""The command line: one module a command, heavy imports inside the commands only."""

from metasd.cli.app import main

__all__ = ["main"]
