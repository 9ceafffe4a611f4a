"""A stand-in for Neutron: the two reads that Nova makes for an instance's metadata, answered from memory.

usage: neutron.py PORT_FILE facts.json...
Writes the port that it listens on into PORT_FILE.
"""

import http.server
import json
import os
import sys
import urllib.parse


def load(names):
    ports, groups = [], {}
    for name in names:
        with open(name, encoding="utf-8") as file:
            facts = json.load(file)
        ports += facts["neutron_ports"]
        groups.update({group["id"]: group for group in facts["neutron_security_groups"]})
    return ports, groups


class Neutron(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ports, groups = load(sys.argv[2:])

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path.startswith("/v2.0/ports"):
            wanted = query.get("device_id", [])
            answer = {"ports": [port for port in self.ports if port["device_id"] in wanted]}
        else:
            found = [self.groups[group] for group in query.get("id", []) if group in self.groups]
            answer = {"security_groups": found}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Neutron)
with open(sys.argv[1] + ".new", "w", encoding="ascii") as file:
    file.write(str(server.server_port))
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
