"""Files in and out: agents that read and write accounts' folders, and what is asked of them."""
