"""The API process: what is asked, whether there is room for it, which worker answers it, and what became of it."""
