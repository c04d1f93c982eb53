"""What gRPC server reflection shows: the files of the services on the check port, and what they import.

Decides nothing. Off by default; it tells whoever can connect which API this is, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_health.v1 import health_pb2

from authz._gen.envoy.service.auth.v3 import external_auth_pb2
from authz._gen.envoy.service.ext_proc.v3 import external_processor_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor


def descriptors() -> bytes:
    """A serialised `FileDescriptorSet`, each file after those that it imports."""
    files = FileDescriptorSet()
    seen: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name in seen:
            return
        seen.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        file.CopyToProto(files.file.add())

    for module in (external_auth_pb2, external_processor_pb2, health_pb2):
        add(module.DESCRIPTOR)
    return files.SerializeToString()
