"""``python -m migrations``: migrates the settings' database to the newest schema."""

from migrations.upgrade import upgrade_to_head
from shared.process import run_main

if __name__ == "__main__":
    run_main(upgrade_to_head)
