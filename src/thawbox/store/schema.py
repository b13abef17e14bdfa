"""The tables.

Times are UTC seconds since 1970 as floats. JSON columns hold what the functions beside them write.
"""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

from .enums import BootPath, BuildStatus, SandboxStatus, TemplateStatus, UploadKind

metadata = sa.MetaData()


def _one_of(words: type[StrEnum], length: int) -> sa.Enum:
    """A VARCHAR that holds the values of ``words``; rows come back with its members."""
    return sa.Enum(
        words, values_callable=lambda kind: [word.value for word in kind], native_enum=False, length=length
    )


organizations = sa.Table(
    "organizations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", sa.String(12), primary_key=True),
    sa.Column("organization_id", sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("secret_sha256", sa.String(64), nullable=False),  # of the whole key string
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
)

templates = sa.Table(
    "templates",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("organization_id", sa.ForeignKey("organizations.id")),  # null: public, of the catalogue
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("display_name", sa.String(200), nullable=False),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("category", sa.String(63), nullable=False, default="custom"),
    sa.Column("language", sa.String(63)),
    sa.Column("icon", sa.String(63)),
    sa.Column("features", sa.JSON, nullable=False, default=list),
    sa.Column("tags", sa.JSON, nullable=False, default=list),
    sa.Column("docs_url", sa.Text),
    sa.Column("popularity_score", sa.Integer, nullable=False, default=0),
    sa.Column("cpu", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("min_resources", sa.JSON(none_as_null=True)),  # of the catalogue: vcpu, memory_mb, disk_gb
    sa.Column("max_resources", sa.JSON(none_as_null=True)),
    sa.Column("status", _one_of(TemplateStatus, 16), nullable=False),
    sa.Column("error_message", sa.Text),
    # The version that new sandboxes boot from; stays the old one while an update builds or after it failed.
    sa.Column("snapshot_key", sa.String(64)),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    sqlite_autoincrement=True,  # ids of deleted templates do not come back
)
sa.Index("templates_by_name", templates.c.organization_id, templates.c.name, unique=True)
sa.Index(
    "templates_public_by_name",  # the index above takes two nulls for different organisations
    templates.c.name,
    unique=True,
    sqlite_where=templates.c.organization_id.is_(None),
    postgresql_where=templates.c.organization_id.is_(None),
)

builds = sa.Table(
    "builds",
    metadata,
    # One row per attempt. The API's build id is the template's id and means its newest attempt.
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    # template_id is no foreign key: quotas count a build even if its template was deleted.
    sa.Column("template_id", sa.Integer, nullable=False, index=True),
    sa.Column("organization_id", sa.Integer, nullable=False, index=True),
    sa.Column("recipe", sa.JSON, nullable=False),
    sa.Column("credentials", sa.JSON(none_as_null=True)),  # of the registry; deleted when the build ends
    sa.Column("status", _one_of(BuildStatus, 16), nullable=False),
    sa.Column("progress", sa.Integer, nullable=False, default=0),
    sa.Column("current_step", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("counts", sa.Boolean, nullable=False, default=True),  # towards the organisation's quota
    sa.Column("timings", sa.JSON(none_as_null=True)),  # phase -> seconds, and the steps' times
    sa.Column("created_at", sa.Float, nullable=False, index=True),
    sa.Column("started_at", sa.Float),
    sa.Column("completed_at", sa.Float),
    sqlite_autoincrement=True,
)
sa.Index("builds_by_status", builds.c.status)

uploads = sa.Table(
    "uploads",
    metadata,
    # name: the files_hash (SDK form) or the relative path (files[] form) of what is announced or has arrived.
    sa.Column("organization_id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(1024), primary_key=True),
    sa.Column("file_id", sa.String(32), nullable=False, unique=True),
    sa.Column("kind", _one_of(UploadKind, 8), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("blob", sa.String(64)),  # file name below <state>/uploads; null until the PUT is complete
    sa.Column("created_at", sa.Float, nullable=False),
)

sandboxes = sa.Table(
    "sandboxes",
    metadata,
    sa.Column("id", sa.String(21), primary_key=True),
    sa.Column("organization_id", sa.Integer, nullable=False, index=True),
    sa.Column("template_id", sa.Integer, nullable=False),
    sa.Column("template_name", sa.String(63), nullable=False),
    sa.Column("snapshot_key", sa.String(64), nullable=False, index=True),
    sa.Column("status", _one_of(SandboxStatus, 16), nullable=False, index=True),
    sa.Column("reason", sa.Text),  # why it is in error
    sa.Column("cpu", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("internet_access", sa.Boolean, nullable=False),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("public_ports", sa.JSON, nullable=False),  # a list of ports, or true for all
    sa.Column("slot", sa.Integer),
    sa.Column("secret", sa.String(64), nullable=False),  # that the agent inside demands
    sa.Column("agent_image", sa.String(255)),  # file name below <state>/runtime
    # Its memory and files, if they are on disk: folder below <state>/paused/<id>, and what froze them.
    sa.Column("memory", sa.String(64)),
    sa.Column("memory_runsc", sa.String(64)),
    sa.Column("paused_at", sa.Float),
    sa.Column("boot_path", _one_of(BootPath, 16)),
    sa.Column("timings", sa.JSON(none_as_null=True)),  # stage -> milliseconds
    sa.Column("timeout_seconds", sa.Integer),
    sa.Column("expires_at", sa.Float, index=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("token_expires_at", sa.Float, nullable=False, default=0.0),  # of the newest token
)

callbacks = sa.Table(
    "callbacks",
    metadata,
    # sandbox_id is no foreign key: a callback is sent as well if the sandbox was deleted.
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("sandbox_id", sa.String(21), nullable=False, index=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("headers", sa.JSON, nullable=False),
    sa.Column("secret", sa.Text),
    sa.Column("body", sa.Text),  # null while the execution runs
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.Float, nullable=False, index=True),
    sa.Column("created_at", sa.Float, nullable=False),
)
