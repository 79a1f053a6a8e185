"""`python -m farrier`."""

from farrier.cli import main

main()
