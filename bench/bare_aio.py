"""A peer that decides nothing: `grpc.aio` reads each check and allows it.

What it costs is what a service of that transport pays before its first rule. Run as
`python -m bench.bare_aio HOST:PORT`. Never to be put before a tool: it allows everything.
"""

from __future__ import annotations

import asyncio
import sys

import grpc

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

CHECK = "envoy.service.auth.v3.Authorization"


async def check(request: CheckRequest, _context: object) -> CheckResponse:
    """Allow what has a body."""
    response = CheckResponse()
    response.status.code = 0 if request.attributes.request.http.raw_body else 7
    response.ok_response.SetInParent()
    return response


async def serve(address: str) -> None:
    """Answer until the process ends."""
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        check, request_deserializer=CheckRequest.FromString, response_serializer=CheckResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(CHECK, {"Check": method}),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
