"""placeholder"""
def main() -> None:
    """placeholder"""
