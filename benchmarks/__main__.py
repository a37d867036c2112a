"""`python -m benchmarks`: see compare.py."""

import sys

from benchmarks.compare import main

if __name__ == "__main__":
    sys.exit(main())
