"""Runs the command line: ``python -m trainlab``."""

from trainlab.cli import main

main()
