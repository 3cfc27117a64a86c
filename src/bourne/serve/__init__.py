"""Views, logs and queries over HTTP, and who may ask."""
