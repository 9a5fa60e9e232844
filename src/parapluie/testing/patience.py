"""How long the kit waits for what must come: `PARAPLUIE_TESTING_SECONDS`, 30 unless set, for each wait.

It is no measure of speed: what comes at all comes much sooner. Worker processes inherit the variable.
"""

from __future__ import annotations

import os

SECONDS = float(os.environ.get("PARAPLUIE_TESTING_SECONDS", "30"))
