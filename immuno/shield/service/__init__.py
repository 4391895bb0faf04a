"""A shield as a service over HTTP: what is asked, how it is gathered into batches, what guards it, and its server."""
