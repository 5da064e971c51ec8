"""``python -m remotemedia`` is the command ``remotemedia``."""

import sys

from remotemedia.cli import main

sys.exit(main())
