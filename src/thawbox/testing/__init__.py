"""Test doubles of the interfaces behind which the server, the sandboxes and the machine lie."""
