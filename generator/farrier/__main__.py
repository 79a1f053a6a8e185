"""`python -m farrier`."""

from farrier.cli.app import main

main()
