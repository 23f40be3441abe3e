"""``python -m migrations``: migrates the settings' database to the newest schema."""

from migrations.upgrade import upgrade_to_head

upgrade_to_head()
