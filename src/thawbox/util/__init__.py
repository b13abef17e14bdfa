"""Small functions without a room of their own. Imports nothing of ours."""
