"""How Django's default database is reached, in libpq's parameters."""

from typing import Any

from django.db import connection

#: What of these opens something, and is shown to nobody.
SECRETS = {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
_DRIVERS_OWN = {"pool", "cursor_factory", "context", "prepare_threshold", "client_encoding"}


def parameters() -> dict[str, Any]:
    """Those of the database that Django uses, whichever that is (in tests, a test database)."""
    given: dict[str, Any] = connection.get_connection_params()
    return {name: value for name, value in given.items() if name not in _DRIVERS_OWN}
