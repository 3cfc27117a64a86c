"""A server's client in Python: `Client`, and `AsyncClient` beside it; docs/serving.md says what they speak.

Law: what is asked and what an answer means is decided without input or output (`asking`, `following`, `copy`); `blocking` and
`asynchronous` only carry it over the wire, and wait.
"""
