"""What is wrong with a login, each a sentence with what to do: Microsoft's numbers (AADSTS...), files that are missing, and
lines that do not reach the login service. azure-identity says most of it as a page of text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from clusterctl.core.errors import AuthFailed, ProviderError, UnknownOutcome

APPLICATION = "the secret in AZURE_CLIENT_SECRET"
FILE = "the secret in the file that AZURE_AUTH_LOCATION names"
CERTIFICATE = "the certificate in AZURE_CLIENT_CERTIFICATE_PATH"
FEDERATED = "the token in AZURE_FEDERATED_TOKEN_FILE"
MACHINE = "this machine's managed identity"
AZ, AZD, POWERSHELL = "`az login`", "`azd auth login`", "`Connect-AzAccount`"

_ANOTHER = (
    "make another (`az ad app credential reset --append --id CLIENT_ID`) and set AZURE_CLIENT_SECRET to its value"
)
_LOG_IN_ANEW = "log in again: {login}"
_TENANT = (
    "there is no such tenant in this cloud: mend AZURE_TENANT_ID or `tenant` of the provider (`az account show` has yours); for "
    "another cloud than the public one set AZURE_AUTHORITY_HOST"
)
_ACCESS_RULE = (
    "a rule of your organisation asks for more (another factor, a managed device, a known place): {login}; for what runs "
    "unattended, take a service principal or a managed identity"
)
_TRUST = (
    "the application has no federated credential for what this token says (issuer, subject, audience): add it with `az ad app "
    "federated-credential create`, or mend AZURE_CLIENT_ID"
)
_CLOCK = "this machine's clock is wrong: set it (`sudo timedatectl set-ntp true`)"
# Microsoft's number -> what to do
_MENDED_BY: dict[str, str] = {
    "7000215": f"it is none of that application's: take the value of a secret, not its id, or {_ANOTHER}",
    "7000222": f"it has expired: {_ANOTHER}",
    "7000218": "the application wants a secret or a certificate: set AZURE_CLIENT_SECRET",
    "700016": "there is no application AZURE_CLIENT_ID in that tenant: mend AZURE_CLIENT_ID or AZURE_TENANT_ID",
    "7000112": "the application is disabled: ask who administers your tenant, or take another one",
    "7000111": "the application is disabled: ask who administers your tenant, or take another one",
    "700027": "the application does not know it: add it (`az ad app credential reset --append --id CLIENT_ID --cert @FILE`)",
    "700024": _CLOCK,
    **dict.fromkeys(("70021", "700211", "700212", "700213", "700223", "7002131"), _TRUST),
    **dict.fromkeys(("90002", "900021", "900023", "50059", "90023"), _TENANT),
    **dict.fromkeys(("50076", "50079", "50074", "50158", "53000", "53001", "53003", "530003", "530084"), _ACCESS_RULE),
    **dict.fromkeys(("700082", "70043", "50173", "50078", "70008", "700084", "50133", "50132", "70044"), _LOG_IN_ANEW),
    "50057": "the account is disabled: ask who administers your tenant",
    "50053": "the account is locked for a while, after wrong passwords",
    "50020": "the account does not exist in that tenant: mend `tenant` of the provider, or {login}",
    "50034": "the account does not exist in that tenant: mend `tenant` of the provider, or {login}",
    "500011": "that tenant gives no tokens for this endpoint: mend `endpoint_url` or AZURE_AUTHORITY_HOST",
}
_BUSY = frozenset({"90033", "90036", "90012", "90024", "50196"})  # Microsoft's own trouble, or too many questions
_NUMBER = re.compile(r"AADSTS(\d+)")
_ADVICE = re.compile(r"(az login(?: +--[\w-]+ +(?:\"[^\"]*\"|\S+))+)")  # with what it asks for, as `az` itself says it
_NAMES = (
    "Name or service not known",
    "NameResolutionError",
    "getaddrinfo failed",
    "name resolution",
    "nodename nor servname",
)
_UNREACHED = ("Max retries exceeded", "HTTPSConnectionPool", "Connection aborted", "Connection refused", *_NAMES)


class LoginFailed(Exception):
    """No token. `wrong` is what that is to callers; the text says why, and what to do."""

    def __init__(self, wrong: type[ProviderError], text: str) -> None:
        super().__init__(text)
        self.wrong = wrong


def explain(error: BaseException, way: str, tenant: str = "") -> LoginFailed:
    """`error` of azure-identity, on the `way` that was tried (one of those above)."""
    if isinstance(error, LoginFailed):
        return error
    text = _said(error)
    if way == MACHINE and "AADSTS" not in text:
        return LoginFailed(UnknownOutcome, f"the metadata service of this machine gives no token ({text})")
    if unreached := _never_got_there(error, text):
        return LoginFailed(UnknownOutcome, unreached)
    if missing := next((one for one in _causes(error) if isinstance(one, OSError)), None):
        return LoginFailed(AuthFailed, f"{way} is not to be had ({_one_line(missing)}); then `clusterctl doctor`")
    number = m.group(1) if (m := _NUMBER.search(text)) else ""
    if number in _BUSY or any(_is_busy(one) for one in _causes(error)):
        return LoginFailed(UnknownOutcome, f"Microsoft's login is busy or broken ({text})")
    advice = m.group(1).rstrip(".") if (m := _ADVICE.search(_one_line(error))) else ""
    login = (
        f"`{advice or 'az login' + (f' --tenant {tenant}' if tenant else '')}`"
        if way in (AZ, APPLICATION, FILE) or advice
        else way
    )
    mended = _MENDED_BY.get(number, _LOG_IN_ANEW if way in (AZ, AZD, POWERSHELL) else "renew it").format(login=login)
    return LoginFailed(
        AuthFailed, f"Microsoft's login does not take {way} ({text}); {mended}; then `clusterctl doctor`"
    )


def _never_got_there(error: BaseException, text: str) -> str:
    """A sentence for who did not get to the login service, else ""."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    broken = any(isinstance(one, ServiceRequestError | ServiceResponseError) for one in _causes(error))
    if not broken and ("AADSTS" in text or not any(word in text for word in _UNREACHED)):
        return ""
    if "Proxy" in text or "proxy" in text:
        return f"the proxy on the way to Microsoft's login could not be used ({text}); see HTTPS_PROXY and NO_PROXY"
    if "CERTIFICATE_VERIFY_FAILED" in text or "SSLError" in text:
        wrong_time = f"; or {_CLOCK}" if "not yet valid" in text or "has expired" in text else ""
        return (
            f"the certificate of Microsoft's login is not trusted here ({text}); name the CA of your network in "
            f"REQUESTS_CA_BUNDLE{wrong_time}"
        )
    if any(word in text for word in _NAMES):
        return f"the name of Microsoft's login is not known here ({text}); check the network, and AZURE_AUTHORITY_HOST"
    return f"Microsoft's login could not be reached, or the line broke ({text}); check the network and HTTPS_PROXY"


def _said(error: BaseException) -> str:
    """What Microsoft says, without its numbers for support."""
    lines = [_one_line(one) for one in _causes(error)]
    text = next((line for line in lines if "AADSTS" in line), lines[0])
    if found := re.search(r'"error_description": ?"([^"]+)"', text):
        text = found.group(1)
    elif "AADSTS" in text:
        text = text[text.index("AADSTS") :]
    text = re.split(
        r"(?:\\r\\n|\s|\.)*(?:Trace ID|To re-authenticate|To mitigate|Interactive authentication is needed)", text
    )[0]
    text = text.removeprefix("Authentication failed: ").removeprefix("ERROR: ")
    return text[:400].rstrip(". ") or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__  # the library below does not always say which was whose


def _is_busy(error: BaseException) -> bool:
    status = int(getattr(getattr(error, "response", None), "status_code", 0) or 0)
    return status >= 500 or status == 429 or re.search(r"HTTP (?:Error|status): (?:5\d\d|429)", str(error)) is not None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
