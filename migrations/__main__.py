"""``python -m migrations``: migrates the settings' database to the newest schema, and grants."""

from migrations.grants import grant_in_database
from migrations.upgrade import upgrade_to_head
from shared.process import run_main


def main() -> None:
    """Applies what is missing, then gives the roles of processes what they need."""
    upgrade_to_head()
    grant_in_database()


if __name__ == "__main__":
    run_main(main)
