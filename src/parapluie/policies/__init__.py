"""What is layered on top of every backend: retry, timeout, shutdown. Policies know tasks and time, and no engine."""
