"""SQL of exports: rows per architecture or per trial."""
