"""Decides what happens to a request: who may call, what it means, where it goes, what comes back."""
