"""The sandbox API and the way to the programs inside: everything at a sandbox's public address."""
