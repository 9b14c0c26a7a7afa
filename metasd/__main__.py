"""``python -m metasd``."""

from __future__ import annotations

import sys

from metasd.cli import main

sys.exit(main())
