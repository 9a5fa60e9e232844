"""What a backend may claim in its `Capabilities`, in the words of the docs and of the command."""

from __future__ import annotations

FACTS = {
    "isolated_memory": "memory of its own, so tasks are pickled",
    "survives_dead_worker": "survives a dead worker",
    "kills_running_task": "kills a running task: `task_timeout`, `cancel(running=True)`",
    "knows_begun": "knows whether a lost call had begun",
    "initializer": "`initializer`",
    "max_tasks_per_child": "`max_tasks_per_child`",
    "start_methods": "the start methods of the platform",
    "imports_main": "has the program's main file in its workers",
    "shared_state": "`executor.shared`",
    "sessions": "`executor.session`",
    "channels": "`executor.channel`",
    "distributed": "workers may be on other machines",
    "runs_in_caller": "runs tasks in the thread that submits",
    "takes_back_items": "takes back what a long item of a `map` holds up",
    "sends_logs": "log records of workers come at once, and survive a death",
}
