"""Prints the reference of all settings: as a TOML file, with `--page` as docs/settings.md."""

import sys

from linguad.config import reference, settings_page

sys.stdout.write(settings_page() if sys.argv[1:] == ["--page"] else reference())
