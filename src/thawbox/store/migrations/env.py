"""Run by Alembic: migrates the connection that ``database.open_database`` hands over."""

from alembic import context

from thawbox.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
# No transaction here: the connection brings its own, and commits all steps or none.
context.run_migrations()
