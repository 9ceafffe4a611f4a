"""Writes the files of config drives as Nova's compute service does, with Nova's own builder.

usage: drive.py NOVA_CONF DIRECTORY facts.json...
Facts are as tests/golden has them, and in Nova's database. Each instance's files are in DIRECTORY/UUID.
"""

import http.server
import json
import os
import sys
import threading

from nova import config, context, objects
from nova.api.metadata import base
from nova.virt import configdrive

ATTRIBUTES = "ec2_ids flavor info_cache metadata system_metadata security_groups keypairs device_metadata numa_topology"


class Targets(http.server.BaseHTTPRequestHandler):
    """Dynamic vendor data: /N is answered as the facts of target N say."""

    facts = []

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        target = self.facts[int(self.path[1:])]
        body = target["reply_body"]
        body = asked if body == "echo-request-body" else body.encode()
        self.send_response(target["reply_status"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def configure(facts, directory, port):
    """Sets the options that a case has."""

    def option(name, value):
        config.CONF.set_override(name, value, group="api")

    option("dhcp_domain", facts.get("dhcp_domain", "novalocal"))
    option("vendordata_providers", facts.get("vendordata_providers") or ["StaticJSON"])
    option("vendordata_jsonfile_path", None)
    if facts.get("vendordata_static") is not None:
        path = os.path.join(directory, "static.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(facts["vendordata_static"], file)
        option("vendordata_jsonfile_path", path)
    Targets.facts = facts.get("vendordata_dynamic_targets") or []
    targets = [target["target"] for target in Targets.facts]
    targets = [
        f"{target.split('@')[0]}@http://127.0.0.1:{port}/{number}" if "@" in target else target
        for number, target in enumerate(targets)
    ]
    option("vendordata_dynamic_targets", targets)


def main():
    config.parse_args(["drive", "--config-file", sys.argv[1]])
    objects.register_all()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Targets)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ctxt = context.get_admin_context()
    [cell] = [cell for cell in objects.CellMappingList.get_all(ctxt) if cell.name == "cell1"]
    directory = sys.argv[2]
    with context.target_cell(ctxt, cell) as cctxt:
        for name in sys.argv[3:]:
            with open(name, encoding="utf-8") as file:
                facts = json.load(file)
            configure(facts["config"], directory, server.server_port)
            uuid = facts["instance"]["uuid"]
            instance = objects.Instance.get_by_uuid(cctxt, uuid, expected_attrs=ATTRIBUTES.split())
            # As the libvirt driver has it, without files and a password that only the request to create the instance has.
            metadata = base.InstanceMetadata(
                instance, content=[], extra_md={}, network_info=instance.info_cache.network_info
            )
            configdrive.ConfigDriveBuilder(instance_md=metadata)._write_md_files(os.path.join(directory, uuid))


main()
