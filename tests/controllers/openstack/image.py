"""Stand-in for Glance: one image, and what snapshots make, by the calls that Nova and the client make of the Images API v2.

Arguments: the port. Nothing is stored: an image has no data.
"""
import http.server
import json
import sys
import uuid

ID = "c5f2b1a0-7a51-4f5e-9a3e-0d6b8f6f2d11"


def image(ident, name):
    return {"id": ident, "name": name, "status": "active", "visibility": "public", "protected": False, "disk_format": "raw",
            "container_format": "bare", "size": 1024, "virtual_size": 1024, "min_disk": 0, "min_ram": 0, "tags": [],
            "checksum": "0" * 32, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "owner": "0" * 32, "self": f"/v2/images/{ident}", "file": f"/v2/images/{ident}/file", "schema": "/v2/schemas/image"}


IMAGES = {ID: image(ID, "small")}
SCHEMA = {"name": "image", "properties": {name: {} for name in IMAGES[ID]}, "additionalProperties": {"type": ["null", "string"]}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        body = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self):
        path, _, query = self.path.partition("?")
        words = path.strip("/").split("/")
        if words == [""] or words == ["versions"]:
            link = f"http://{self.headers['Host']}/v2/"
            self.answer(300 if words == [""] else 200,
                        {"versions": [{"id": "v2.9", "status": "CURRENT", "links": [{"rel": "self", "href": link}]}]})
        elif words == ["v2", "schemas", "image"]:
            self.answer(200, SCHEMA)
        elif words == ["v2", "images"]:
            found = [one for one in IMAGES.values() if "name=" not in query or f"name={one['name']}" in query.split("&")]
            self.answer(200, {"images": found, "schema": "/v2/schemas/images", "first": "/v2/images"})
        elif words[:2] == ["v2", "images"] and words[2] in IMAGES:
            self.answer(200, IMAGES[words[2]])
        else:
            self.answer(404, {"message": f"no {path}"})

    def do_POST(self):
        wanted = json.loads(self.body())
        ident = wanted.get("id") or str(uuid.uuid4())
        IMAGES[ident] = image(ident, wanted.get("name", ""))
        self.answer(201, IMAGES[ident])

    def do_PUT(self):
        self.body()
        self.answer(204, None)

    def do_PATCH(self):
        self.body()
        self.answer(200, IMAGES[self.path.split("/")[3]])

    def do_DELETE(self):
        IMAGES.pop(self.path.split("/")[3], None)
        self.answer(204, None)

    def log_message(self, *words):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
