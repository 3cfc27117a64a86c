"""SQL text to logical plan. DuckDB binds; Bourne only reads what it bound. Nothing here does I/O on data."""
