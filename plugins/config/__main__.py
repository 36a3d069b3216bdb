"""Print docs/config.md: ``python -m plugins.config > docs/config.md``."""

import sys

from plugins.config.reference import reference_page

sys.stdout.write(reference_page())
