# pragma version 0.4.3
# pragma evm-version cancun
"""
@title RoleStore
@notice Who may do what in the double of GMX v2. The deployer grants. LOCAL CHAINS ONLY.
"""

struct Grant:
    account: address
    role: bytes32

admin: address
hasRole: public(HashMap[address, HashMap[bytes32, bool]])


@deploy
def __init__():
    self.admin = msg.sender


@external
def grantRole(account: address, role: bytes32):
    assert msg.sender == self.admin, "ADMIN_ONLY"
    self.hasRole[account][role] = True


@external
def grantRoles(grants: DynArray[Grant, 64]):
    """Many at once, for the deployment."""
    assert msg.sender == self.admin, "ADMIN_ONLY"
    for grant: Grant in grants:
        self.hasRole[grant.account][grant.role] = True


@external
def revokeRole(account: address, role: bytes32):
    assert msg.sender == self.admin, "ADMIN_ONLY"
    self.hasRole[account][role] = False
