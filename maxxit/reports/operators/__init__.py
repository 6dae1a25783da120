"""What the operator pages, the API under /api/admin and the commands show of the machine."""
