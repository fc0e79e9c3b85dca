"""The HTTP interface: routes, schemas, errors, what every request passes."""
