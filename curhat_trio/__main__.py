"""`python -m curhat_trio` is the `curhat-trio` command."""

import sys

from curhat_trio.cli import main

if __name__ == "__main__":
    sys.exit(main())
