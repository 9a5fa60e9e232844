"""How fast items go from one task to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parapluie.bench.workloads.stage import Stage


def channel(stage: Stage) -> dict[str, float | None]:
    """Time items that are put one by one, and several at a time, in their consumer."""
    items, batch = stage.sizes.channel_items, stage.sizes.channel_batch
    stage.adapter.flow(batch, None)  # they connect
    return {
        "single": items / stage.adapter.flow(items, None),
        "batched": items / stage.adapter.flow(items, batch),
    }
