"""The processes that serve HTTP: a supervisor, its workers, and the server loop in each worker."""
