"""How the pictures of the mini-world are drawn."""
