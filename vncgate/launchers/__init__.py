"""How desktops come to life: places that own their processes, and the scripts that these run."""
