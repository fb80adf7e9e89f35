"""Files in and out: agents read and write accounts' folders, archives are built beforehand, links lead to them."""
