"""Prints the reference of all settings as a TOML file; as docs/settings.md with `--page`.

With `--old` docs/old-settings.md: what became of the earlier server's keys.
"""

import sys

from linguad.config import old_page, reference, settings_page

PAGES = {"--page": settings_page, "--old": old_page}

sys.stdout.write(PAGES.get(sys.argv[-1], reference)())
