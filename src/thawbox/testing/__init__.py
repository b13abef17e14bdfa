"""Test doubles of the interfaces to builds, to sandboxes and to the machine's runtime."""
