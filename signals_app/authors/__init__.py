"""What each account's calls would have made, and how much its word should therefore weigh."""
