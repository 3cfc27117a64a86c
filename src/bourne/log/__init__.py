"""The log: ordered, durable, immutable records in a folder. See docs/log_format.md."""
