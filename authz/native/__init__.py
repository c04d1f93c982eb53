"""The native library as Python sees it: OPA as engine, grpc-go as transport, and the commit barrier.

Decides nothing about a call. It must never let an exception, a missing value or a late answer leave this
process as anything but an explicit denial, and never hold memory of the library after the call it came
with. Trusts the library next to it, after its ABI version has been compared.

    library = Library.load()
    policy = library.open_policy(PolicyOptions(paths=(directory,), contract="agent"))
    allowed = policy.prepare("authz/decision").evaluate(input_json, deadline_s=0.05)
    log = library.open_log(LogOptions(directory=audit))
    server = library.serve(ServerOptions(...), program, log)
"""

from authz.native.boundary import EngineError, Location, NativeError, Problem
from authz.native.engine import Evaluation, Policy, PolicyOptions, Query
from authz.native.library import Library
from authz.native.log import Log, LogOptions
from authz.native.program import Claim, Program, Reply, Steps, StreamProgram, StreamReply
from authz.native.transport import Server, ServerOptions, TLSOptions

__all__ = [
    "Claim",
    "EngineError",
    "Evaluation",
    "Library",
    "Location",
    "Log",
    "LogOptions",
    "NativeError",
    "Policy",
    "PolicyOptions",
    "Problem",
    "Program",
    "Query",
    "Reply",
    "Server",
    "ServerOptions",
    "Steps",
    "StreamProgram",
    "StreamReply",
    "TLSOptions",
]
