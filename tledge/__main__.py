"""`python -m tledge`."""

from tledge.cli import main

main()
