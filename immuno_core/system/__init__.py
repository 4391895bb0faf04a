"""What this process owes the system it runs on: signals, the standard streams, temporary folders."""
