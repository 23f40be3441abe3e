"""SQL about reference runs and wanted timings."""
