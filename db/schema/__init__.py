"""The tables, their types, and how a database comes to have them."""
