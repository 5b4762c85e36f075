"""The training recipe; nothing outside this folder imports it."""
