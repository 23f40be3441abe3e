"""SQL about sweeps and their jobs: seeding, reading, controlling."""
