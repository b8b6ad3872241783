"""A run: its settings, how it is put together, its loop, its processes and its folder."""
