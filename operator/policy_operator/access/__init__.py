"""Who may call us, and by which certificate they know us."""
