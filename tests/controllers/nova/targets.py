"""A stand-in for services that give dynamic vendor data.

usage: targets.py PORT_FILE TARGETS
Writes the port that it listens on into PORT_FILE. TARGETS is a list as in the `config` of golden cases: what each answers, by its path.
"""

import http.server
import json
import os
import sys
import urllib.parse

with open(sys.argv[2], encoding="utf-8") as file:
    ANSWERS = {urllib.parse.urlsplit(target["target"].partition("@")[2] or target["target"]).path: target
               for target in json.load(file)}


class Targets(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        answer = ANSWERS[self.path]
        body = asked if answer["reply_body"] == "echo-request-body" else answer["reply_body"].encode()
        self.send_response(answer["reply_status"])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Targets)
with open(sys.argv[1] + ".new", "w", encoding="ascii") as file:
    file.write(str(server.server_port))
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
