"""What positions with margin need beyond tokens: funding payments and liquidations."""
