"""The quick start over gRPC reflection alone: no proto file, no generated code.

The argument is {"target", "admin_token", "upstreams": {name: url}, "tools": [match]}; the output is one line of JSON:
{"services": [...], "health": "SERVING", "bearer": "..."}.
"""

import json
import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

TIMEOUT = 30


class Gateway:
    """Calls methods by name, with what the server says of itself."""

    def __init__(self, target: str, admin_token: str):
        self.channel = grpc.insecure_channel(target)
        self.metadata = [("authorization", f"Bearer {admin_token}")]
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.database)

    def call(self, service: str, method: str, request: dict) -> dict:
        found = self.pool.FindServiceByName(service).FindMethodByName(method)
        message = json_format.ParseDict(request, GetMessageClass(found.input_type)())
        answer = GetMessageClass(found.output_type)
        rpc = self.channel.unary_unary(
            f"/{service}/{method}", lambda m: m.SerializeToString(), answer.FromString
        )
        reply = rpc(message, metadata=self.metadata, timeout=TIMEOUT)
        return json_format.MessageToDict(reply)

    def last_of(self, service: str, method: str, request: dict) -> list[dict]:
        """Every message of a stream that the server ends."""
        found = self.pool.FindServiceByName(service).FindMethodByName(method)
        message = json_format.ParseDict(request, GetMessageClass(found.input_type)())
        answer = GetMessageClass(found.output_type)
        rpc = self.channel.unary_stream(
            f"/{service}/{method}", lambda m: m.SerializeToString(), answer.FromString
        )
        return [json_format.MessageToDict(m) for m in rpc(message, metadata=self.metadata, timeout=TIMEOUT)]


def main(order: dict) -> dict:
    gateway = Gateway(order["target"], order["admin_token"])
    services = sorted(gateway.database.get_services())
    health = gateway.call("grpc.health.v1.Health", "Check", {})
    registry, identity = "trunkline.registry.v1", "trunkline.identity.v1"
    for name, url in order["upstreams"].items():
        request = {"upstreamId": name, "upstream": {"http": {"url": url}}}
        answer = gateway.call(f"{registry}.UpstreamService", "CreateUpstream", request)
        assert answer["upstream"]["status"]["state"] == "UPSTREAM_STATE_READY", answer
    server = {"tools": [{"match": match} for match in order["tools"]]}
    gateway.call(f"{registry}.ServerService", "CreateServer", {"serverId": "dev", "server": server})
    token = {"scope": {"servers": ["servers/dev"], "tools": ["*"]}}
    answer = gateway.call(f"{identity}.TokenService", "CreateToken", {"tokenId": "laptop", "token": token})
    edges = gateway.last_of("trunkline.discovery.v1.FleetService", "WatchRollout", {})
    assert any(edge["state"] == "ROLLOUT_STATE_ACKNOWLEDGED" for edge in edges), edges
    return {"services": services, "health": health["status"], "bearer": answer["bearer"]}


print(json.dumps(main(json.loads(sys.argv[1]))))
