# shellcheck shell=bash
# Read by the image's entrypoint when the database is made.
psql -v ON_ERROR_STOP=1 -v secrets=/run/secrets --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --file /etc/convsweep/roles.sql
