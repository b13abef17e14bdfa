"""The database: tables, queries on them, migrations.

One file per table, with functions on a connection. They read and write rows; the decisions are made by the callers.
"""
