"""What operators ask of a running proxy over HTTP."""
