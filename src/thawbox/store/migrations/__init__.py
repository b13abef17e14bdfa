"""Alembic's scripts: how tables of older versions become those of ``schema``."""
