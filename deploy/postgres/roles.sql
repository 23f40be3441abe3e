-- One role for each kind of process, each with its own password. For psql, as a superuser, once:
--   psql -v secrets=/run/secrets -d convsweep -f roles.sql
-- The migrator owns the database; `convsweep migrate` grants the others what they need
-- (migrations/grants.py). Passwords come from files, so that no command line shows them.
\set ON_ERROR_STOP on
\set migrator `cat :secrets/migrator`
\set api `cat :secrets/api`
\set dispatcher `cat :secrets/dispatcher`
\set worker `cat :secrets/worker`
CREATE ROLE convsweep_migrator LOGIN NOINHERIT PASSWORD :'migrator';
CREATE ROLE convsweep_api LOGIN NOINHERIT PASSWORD :'api';
CREATE ROLE convsweep_dispatcher LOGIN NOINHERIT PASSWORD :'dispatcher';
CREATE ROLE convsweep_worker LOGIN NOINHERIT PASSWORD :'worker';
SELECT current_database() AS database \gset
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
ALTER DATABASE :"database" OWNER TO convsweep_migrator;
ALTER SCHEMA public OWNER TO convsweep_migrator;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO convsweep_api, convsweep_dispatcher, convsweep_worker;
GRANT USAGE ON SCHEMA public TO convsweep_api, convsweep_dispatcher, convsweep_worker;
