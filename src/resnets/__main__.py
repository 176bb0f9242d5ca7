"""`python -m resnets` is the command line."""

import sys

from resnets.cli import main

if __name__ == "__main__":
    sys.exit(main())
