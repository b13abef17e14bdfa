from __future__ import annotations

from tests.support.command_line import clean_environment, logged_in, server, thaw

__all__ = ["clean_environment", "logged_in", "server", "thaw"]
