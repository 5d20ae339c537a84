"""docker-py's client, for any way to an engine, and undisturbed by what it would take from the user's files and environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import docker

from clusterctl_providers.docker.endpoint import Endpoint
from clusterctl_providers.docker.ssh import SCHEME, SshAdapter

TIMEOUT = 120  # seconds for one call; a start may wait for its turn in a busy engine
CONNECTIONS = 16  # calls at the same time
_LOCAL = "http+docker://"
_PROXY_KEYS = ("httpProxy", "httpsProxy", "ftpProxy", "noProxy")


def way_of(endpoint: Endpoint) -> SshAdapter | None:
    """An adapter for addresses that begin with ssh://; None for others, which docker-py itself gets to."""
    return SshAdapter(endpoint.host, TIMEOUT, CONNECTIONS) if endpoint.host.startswith(SCHEME) else None


class Api(docker.APIClient):
    """Raises docker's and requests' errors, OSError, and BadRequest for certificates that are not there."""

    def __init__(self, endpoint: Endpoint, ssh: SshAdapter | None) -> None:
        self._ssh = ssh
        super().__init__(
            base_url="unix:///ssh" if ssh else endpoint.host, tls=endpoint.tls.config() if endpoint.tls else False,
            version="auto", timeout=TIMEOUT, max_pool_size=CONNECTIONS,
        )  # fmt: skip

    def mount(self, prefix: Any, adapter: Any) -> None:
        """docker-py's own way through ssh has no sockets: `exec` breaks on it, and so does a connection that was idle."""
        super().mount(prefix, self._ssh if self._ssh and prefix == _LOCAL else adapter)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """The engine's CA is that of its TLS settings, also where REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names another."""
        verify = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    @property
    def _general_configs(self) -> dict[str, Any]:
        return self.__dict__["_general"]

    @_general_configs.setter
    def _general_configs(self, read: Any) -> None:
        """Of ~/.docker/config.json, that which is used and well-formed. Logins are not: docker-py ends over one that is broken,
        whatever it is for; see docker_login."""
        self.__dict__["_general"] = usable(read)


def usable(read: Any) -> dict[str, Any]:
    """Proxies and HTTP headers of `read`, the parsed config.json, as far as they are of the right types."""
    config = _mapping(read)
    proxies = {
        host: {key: value for key, value in _mapping(proxy).items() if key in _PROXY_KEYS and isinstance(value, str)}
        for host, proxy in _mapping(config.get("proxies")).items()
    }
    headers = {k: v for k, v in _mapping(config.get("HttpHeaders")).items() if isinstance(v, str)}
    return {
        "proxies": proxies,
        "HttpHeaders": headers,
    }  # never empty: docker-py would read the file again, logins and all


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
