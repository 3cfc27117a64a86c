"""Real servers for tests: private, on free ports, in temporary folders."""
