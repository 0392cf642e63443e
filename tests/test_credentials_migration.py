"""The migration that gave secrets a table: who had a secret before it has the same one after."""

from __future__ import annotations

import shutil
from uuid import uuid4

from conftest import SERVING_ROLE
from credentials import KEYRING

from ledger.database import Database
from ledger.directory import Directory
from ledger.migrate import migrate, migrations
from ledger.secrets import hash_secret


def test_secrets_from_before_still_hold_and_can_be_rotated(empty_database, tmp_path, request):
    """The hash moves with a prefix of its own; nobody has to be given a new secret."""
    source = request.config.rootpath / "migrations"
    for migration in migrations()[:4]:
        shutil.copy(source / migration.name, tmp_path)
    migrate(empty_database.owner_url, directory=tmp_path)
    app_id, secret = uuid4(), "sls_from-before-this-migration"
    with Database(empty_database.owner_url) as owner:
        with owner.connection() as connection:
            connection.execute(
                "INSERT INTO apps (app_id, name, scopes, secret_hash) VALUES (%s, 'x', '{}', %s)",
                (app_id, hash_secret(secret)),
            )
        migrate(empty_database.owner_url, serving_role=SERVING_ROLE)
    with Database(empty_database.server_url) as database:
        directory = Directory(database, KEYRING)
        assert directory.app_secret_holds(app_id, secret)
        [listed] = directory.app_secrets(app_id)
        assert (listed.expires_at, listed.revoked_at) == (None, None)
        assert hash_secret(secret).hex().startswith(listed.prefix.removeprefix("sls_"))
        new = directory.rotate_secret(app_id)
        assert directory.app_secret_holds(app_id, secret)
        assert directory.app_secret_holds(app_id, new.app_secret)
