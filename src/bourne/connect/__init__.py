"""Sources and, later, sinks: where records come from and go to."""
