"""How the model of the mini-world was trained and measured."""
