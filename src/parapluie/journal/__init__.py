"""Durable maps: what is done is recorded in an SQLite file as it comes, and the same call goes on where it was.

    input ─ replay.py ─▶ items that are not recorded ─▶ the map ─ recorder.py ─▶ store.py ─▶ the file
                 └── those that are ──▶ the consumer ◀── once it is committed ──┘

It all happens in the parent, and so on every backend. `settings.py` has what users say about a journal, `sealing.py`
what items, values and errors are recorded as.
"""

from __future__ import annotations

from parapluie.journal.settings import Journal as Journal
