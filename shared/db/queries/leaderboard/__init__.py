"""SQL about ranked jobs: conditions, order, pages and device models."""
