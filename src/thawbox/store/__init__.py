"""What survives a restart: tables, queries on them, migrations.

One file per table with plain functions on a connection; nothing here decides anything. Nothing here imports
from the rest of the package but ``errors``, ``ids`` and ``settings``.
"""
