"""Shared objects: where they live, who waits for what, and how a process reaches them."""
