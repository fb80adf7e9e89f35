"""What the gate sends to hosts and has executed there; see main.py. Nothing of it is imported by the gate itself."""
