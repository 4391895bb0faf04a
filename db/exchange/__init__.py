"""What goes in and out of a database whole: sessions, banks, other databases."""
