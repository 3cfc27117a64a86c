"""The incremental engine: a plan becomes a circuit, a circuit follows logs in epochs, exactly once."""
