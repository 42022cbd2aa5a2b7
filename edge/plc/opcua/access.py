"""Who may do what at the OPC UA server: accounts, and the services that nobody is served."""

from hmac import compare_digest
from typing import Any

from asyncua import ua
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.user_managers import UserManager

from edge.plc.opcua.startup_check import file_content
from edge.settings.opcua import OpcUaSettings


class Users(UserManager):
    """Lets the one account in, or everybody where there is none."""

    def __init__(self, username: str | None, password: str | None) -> None:
        self._username, self._password = username, password

    def get_user(
        self,
        _server: Any,
        username: str | None = None,
        password: str | None = None,
        certificate: Any = None,
    ) -> User | None:
        if self._username is None:
            return User(role=UserRole.User)
        given = f"{username}\0{password}".encode()
        if compare_digest(given, f"{self._username}\0{self._password}".encode()):
            return User(role=UserRole.User, name=username)
        return None


def rules() -> SimpleRoleRuleset:
    """Return what users may: read, browse, subscribe, and call."""
    refused = {
        ua.NodeId(ua.Int32(service))
        for service in (
            ua.ObjectIds.WriteRequest_Encoding_DefaultBinary,
            ua.ObjectIds.HistoryReadRequest_Encoding_DefaultBinary,
        )
    }
    found = SimpleRoleRuleset()
    found._permission_dict[UserRole.User] -= refused
    found._permission_dict[UserRole.Admin] -= refused
    return found


async def secure(server: Any, settings: OpcUaSettings) -> None:
    """Have connections secured where there is a certificate, and accounts asked for."""
    policies = [ua.SecurityPolicyType.NoSecurity]
    if settings.certificate_file and settings.key_file:
        await server.load_certificate(*file_content(settings.certificate_file))
        content, form = file_content(settings.key_file)
        await server.load_private_key(content, None, form)
        policies = [
            ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
            ua.SecurityPolicyType.Basic256Sha256_Sign,
        ]
    server.set_security_policy(policies, permission_ruleset=rules())
    named = settings.username is not None
    server.set_identity_tokens([ua.UserNameIdentityToken if named else ua.AnonymousIdentityToken])
