"""Boot diagnostics: what a machine wrote to its serial console, at an address that is good for a while."""

from __future__ import annotations

import re
import secrets

from werkzeug.wrappers import Request, Response

from tests.cloud.azure.machine import Machine
from tests.cloud.azure.services import Call, Services
from tests.cloud.azure.vms import Vms
from tests.cloud.azure.world import Refusal, World


class Consoles:
    def __init__(self, world: World, services: Services, vms: Vms) -> None:
        self._world, self._vms = world, vms
        self._signed: dict[str, str] = {}  # signature -> id of a machine
        services.on("virtualMachines.retrieveBootDiagnosticsData", self._links)
        services.plain(r"/bootdiagnostics/([^/]+)/serialconsole\.log", self._log)

    def _links(self, call: Call) -> dict[str, str]:
        machine = self._vms.named(call.id.rpartition("/")[0])
        enabled = ((machine.properties.get("diagnosticsProfile") or {}).get("bootDiagnostics") or {}).get("enabled")
        if not enabled:
            message = f"Boot diagnostics is not enabled on the VM '{machine.name}'."
            raise Refusal(409, "OperationNotAllowed", message)
        signature = secrets.token_urlsafe(16)
        self._signed[signature] = machine.id
        base = f"https://{call.headers['Host']}/bootdiagnostics/{machine.id}"
        return {
            "consoleScreenshotBlobUri": f"{base}/screenshot.bmp?sig={signature}",
            "serialConsoleLogBlobUri": f"{base}/serialconsole.log?sv=2018-03-28&sr=b&sp=r&sig={signature}",
        }

    def _log(self, request: Request, match: re.Match[str]) -> Response:
        """The storage account's answer: no token, the signature is enough. There is nothing before the machine wrote some."""
        id_ = self._signed.get(request.args.get("sig", ""))
        if id_ != match.group(1):
            return Response(
                "<Error><Code>AuthenticationFailed</Code></Error>", status=403, content_type="application/xml"
            )
        text = self._world.consoles(id_) if self._world.consoles else ""
        if not text:
            return Response("<Error><Code>BlobNotFound</Code></Error>", status=404, content_type="application/xml")
        return Response(text, content_type="text/plain")

    def of(self, machine: Machine) -> str:
        return self._world.consoles(machine.id) if self._world.consoles else ""
