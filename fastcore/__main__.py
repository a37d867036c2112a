"""``python -m fastcore``: the command line."""

import sys

from fastcore.cli import main

sys.exit(main())
