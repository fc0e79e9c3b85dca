"""How actions are named. Pure."""

SEQUENCE = ">"  # joins the actions of a sequence: a name of its own
