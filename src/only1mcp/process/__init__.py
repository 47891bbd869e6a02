"""The running process: its event loop and signals, its logs; the only place that puts all other parts together."""
