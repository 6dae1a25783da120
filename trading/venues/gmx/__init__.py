"""GMX v2 from users' own Safes: perpetual futures with collateral in USDC, through our PerpModule."""
