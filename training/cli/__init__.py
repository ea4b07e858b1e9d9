"""The offline commands: words and tables, one file a command; what is heavy loads when a command runs."""
