"""What alembic runs for each upgrade: over the connection that its caller has open."""

from alembic import context

config = getattr(context, "config", None)
if config is not None:  # else nothing is upgraded: whoever imports all modules imports this one
    context.configure(
        connection=config.attributes["connection"], transactional_ddl=True, render_as_batch=True
    )
    with context.begin_transaction():
        context.run_migrations()
