"""What a command says when it cannot do what was asked."""


class UserError(Exception):
    """A sentence, or several, for the person at the keyboard; nothing was changed."""
