"""`python -m raylift.cli`."""

import sys

from raylift.cli import main

sys.exit(main())
