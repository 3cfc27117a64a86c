"""The same queries over the same events in Bourne, in DuckDB and in other stream processors."""
