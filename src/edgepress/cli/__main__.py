"""`python -m edgepress.cli`, where the script `edgepress` is not on the path."""

from edgepress.cli import main

main()
