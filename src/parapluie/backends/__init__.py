"""The built-in backends; none imports another, and each is registered by builtin.py through the public hook."""
