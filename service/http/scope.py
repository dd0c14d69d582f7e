"""What `service.http` leaves in the ASGI scope of a request, beside what the protocol has there."""

CONNECTION = "graftwork.connection"  # the client's connection
REFUSAL = "graftwork.refusal"  # the error that a request has met already: see `service.http.connection`
