"""Who may call the server: keys, their file, and what they allow."""
