"""Lets cloud-init's own data source crawl, and prints what it made of it as JSON.

    cloud_init.py openstack|ec2|aws MAX_WAIT URL...
    cloud_init.py drive - DIRECTORY        (a config drive's files, as where it is mounted)

MAX_WAIT is cloud-init's setting of that name ("-" leaves its default), and the URLs are its `metadata_urls`; all else is as
cloud-init has it. Its log goes to stderr. Replaced is only what asks the machine's firmware which cloud this is: a guest of
the lab has none of its own. `aws` is the source `Ec2` where the firmware is Amazon's.
"""

import base64
import copy
import json
import logging
import os
import sys
import tempfile

from cloudinit import distros, helpers
from cloudinit.sources import DataSourceConfigDrive, DataSourceEc2, DataSourceOpenStack

DataSourceOpenStack.detect_openstack = lambda **_: True
PLATFORM = DataSourceEc2.CloudNames.AWS if sys.argv[1] == "aws" else DataSourceEc2.CloudNames.UNKNOWN
DataSourceEc2.identify_platform = lambda: PLATFORM


def portable(value):
    """Bytes, which JSON does not have, become base64."""
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else str(value)


def raw(data):
    """User data as bytes; cloud-init has an empty string where there is none."""
    return data.encode() if isinstance(data, str) else data


def parts(message):
    """The leaves of the user data as cloud-init hands them to its handlers: type and text."""
    leaves = [part for part in message.walk() if not part.is_multipart()]
    return [[part.get_content_type(), part.get_payload(decode=True).decode()] for part in leaves]


def main(kind, max_wait, urls):
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
    module, name = {
        "openstack": (DataSourceOpenStack, "OpenStack"),
        "drive": (DataSourceConfigDrive, "ConfigDrive"),
        "ec2": (DataSourceEc2, "Ec2"),
        "aws": (DataSourceEc2, "Ec2"),
    }[kind]
    settings = {"metadata_urls": urls}
    if max_wait != "-":
        settings["max_wait"] = int(max_wait)
    config = {"datasource_list": [name], "datasource": {name: settings}}
    with tempfile.TemporaryDirectory() as folder:
        paths = helpers.Paths({"cloud_dir": folder, "run_dir": folder})
        distro = distros.fetch("debian")("debian", config, paths)
        if kind == "drive":
            os.makedirs(paths.seed_dir)
            os.symlink(urls[0], os.path.join(paths.seed_dir, "config_drive"))
        source = getattr(module, f"DataSource{name}")(config, distro, paths)
        found = {"found": source._get_data(), "address": getattr(source, "metadata_address", None)}
        if found["found"]:
            found.update(metadata=source.metadata, userdata=raw(source.userdata_raw), parts=parts(source.get_userdata()))
        if found["found"] and kind in ("openstack", "drive"):
            found.update(
                vendordata=source.vendordata_pure,
                vendordata2=source.vendordata2_pure,
                networkdata=copy.deepcopy(source.network_json),
                ec2=source.ec2_metadata,
                network_config=source.network_config,
            )
    json.dump(found, sys.stdout, default=portable)


main(sys.argv[1], sys.argv[2], sys.argv[3:])
