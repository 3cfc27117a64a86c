"""Real servers, private to one test run: each lives in a temporary folder and listens on a free port of 127.0.0.1."""
