"""What the maintainers of the repository run: no part of the product, and not in the wheel."""
