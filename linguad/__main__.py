"""`python -m linguad` is `linguad`."""

import sys

from linguad.cli import main

sys.exit(main())
