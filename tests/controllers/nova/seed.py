"""Puts instances into Nova's own database, with Nova's own objects.

usage: seed.py NOVA_CONF create CELL facts.json... [CELL facts.json...]...
       seed.py NOVA_CONF set UUID KEY VALUE       (one key of its metadata)
       seed.py NOVA_CONF follow                   (the same for each line UUID KEY VALUE that it reads, and says so)
       seed.py NOVA_CONF move CELL facts.json     (from the cell that it is in)
       seed.py NOVA_CONF delete UUID
Facts are as tests/golden has them; `host` in them is where the instance is. Each cell is a database beside NOVA_CONF, and each host has
a compute service, as far as Nova's compute API lists it.
"""

import json
import os
import sqlite3
import sys
import uuid

from nova import config, context, objects
from nova.db.main import api as db
from nova.db.main import models
from nova.network import model as network
from nova.objects import service as services
from nova.objects import virt_device_metadata as devices
from oslo_utils import timeutils

BUSES = {
    "pci": devices.PCIDeviceBus,
    "usb": devices.USBDeviceBus,
    "scsi": devices.SCSIDeviceBus,
    "ide": devices.IDEDeviceBus,
    "xen": devices.XenDeviceBus,
}
KINDS = {"nic": devices.NetworkInterfaceMetadata, "disk": devices.DiskMetadata, "share": devices.ShareMetadata}
DEVICE_KEYS = ("tags", "mac", "vlan", "vf_trusted", "serial", "path", "share_id", "tag")
COPIED = (
    "uuid project_id user_id display_name hostname availability_zone launch_index reservation_id image_ref kernel_id "
    "ramdisk_id key_name key_data root_device_name default_ephemeral_device default_swap_device"
).split()


@db.pick_context_manager_writer
def add(ctxt, row):
    ctxt.session.add(row)


@db.pick_context_manager_reader
def images_of(ctxt):
    return {row.uuid for row in ctxt.session.query(models.S3Image)}


def device(facts):
    fields = {key: facts[key] for key in DEVICE_KEYS if key in facts}
    if "bus" in facts:
        fields["bus"] = BUSES[facts["bus"]["type"]](address=facts["bus"]["address"])
    return KINDS[facts["kind"]](**fields)


def place(directory, cells):
    """Makes the copied databases this Nova's, with these cells beside `cell0`."""
    database = sqlite3.connect(f"{directory}/api.sqlite")
    known = {name for name, in database.execute("select name from cell_mappings")}
    for name in cells:
        if name not in known:
            database.execute("insert into cell_mappings (created_at, uuid, name, transport_url, database_connection, disabled) "
                             "values (datetime('now'), ?, ?, 'fake://', '', 0)", (str(uuid.uuid4()), name))
    for name in ["cell0", *cells]:
        database.execute("update cell_mappings set database_connection = ? where name = ?",
                         (f"sqlite:///{directory}/{name}.sqlite", name))
    database.commit()


def serve(cctxt, host):
    row = models.Service()
    row.uuid, row.host, row.binary, row.topic = str(uuid.uuid4()), host, "nova-compute", "compute"
    row.report_count, row.disabled, row.forced_down, row.version = 1, False, False, services.SERVICE_VERSION
    add(cctxt, row)


def create(cctxt, facts):
    instance, numbers, images = facts["instance"], facts["ec2_ints"], images_of(cctxt)
    for kind, ref in (("image", "image_ref"), ("kernel", "kernel_id"), ("ramdisk", "ramdisk_id")):
        if instance[ref] and numbers[kind] and instance[ref] not in images:
            images.add(instance[ref])
            row = models.S3Image()
            row.id, row.uuid = numbers[kind], instance[ref]
            add(cctxt, row)
    row = models.InstanceIdMapping()
    row.id, row.uuid = numbers["instance"], instance["uuid"]
    add(cctxt, row)

    made = objects.Instance(cctxt)
    for key in COPIED:
        setattr(made, key, instance[key])
    made.launched_at = timeutils.parse_isotime(instance["launched_at"])
    made.user_data = instance["user_data_b64"]
    made.vm_state, made.power_state, made.host = "building", 1, facts.get("host", "node")
    flavor = instance["flavor"]
    for key in ("memory_mb", "vcpus", "root_gb", "ephemeral_gb"):
        setattr(made, key, flavor[key])
    made.instance_type_id = 1
    made.metadata = dict(instance["metadata"])
    made.system_metadata = dict(instance["system_metadata"])
    made.flavor = objects.Flavor(
        cctxt, id=1, flavorid=flavor["name"], rxtx_factor=1.0, vcpu_weight=0, disabled=False, is_public=True,
        description=None, projects=[], **flavor
    )
    made.old_flavor = made.new_flavor = None
    made.keypairs = objects.KeyPairList(objects=[
        objects.KeyPair(id=number, user_id=instance["user_id"], fingerprint="00:11", **pair)
        for number, pair in enumerate(instance["keypairs"], 1)
    ])
    if instance["numa_topology"] is not None:
        made.numa_topology = objects.InstanceNUMATopology(cells=[
            objects.InstanceNUMACell(
                id=node["id"], cpuset=set(node["cpuset"]), pcpuset=set(node["pcpuset"]), memory=node["memory"],
                cpu_policy=None,
            )
            for node in instance["numa_topology"]["cells"]
        ])
    made.create()
    # As every instance that was built, it has been updated; of another one, Nova's API says that it is updated now.
    made.vm_state = "active"
    if instance["device_metadata"] is not None:
        made.device_metadata = objects.InstanceDeviceMetadata(devices=[device(d) for d in instance["device_metadata"]])
    made.save()
    cache = objects.InstanceInfoCache.get_by_instance_uuid(cctxt, instance["uuid"])
    cache.network_info = network.NetworkInfo.hydrate(facts["network_info"])
    cache.save()
    for mapping in instance["block_device_mappings"]:
        fields = {key: value for key, value in mapping.items() if value is not None}
        objects.BlockDeviceMapping(
            cctxt, instance_uuid=instance["uuid"], no_device=False, delete_on_termination=False, **fields
        ).create()


def map_to(ctxt, cell, instance):
    objects.InstanceMapping(
        ctxt, instance_uuid=instance["uuid"], cell_mapping=cell, project_id=instance["project_id"],
        user_id=instance["user_id"], queued_for_delete=False,
    ).create()


def read(name):
    with open(name, encoding="utf-8") as file:
        return json.load(file)


def change(cctxt, uuid, key, value):
    instance = objects.Instance.get_by_uuid(cctxt, uuid, expected_attrs=["metadata"])
    instance.metadata = {**instance.metadata, key: value}
    instance.save()


def create_all(ctxt, cells, seeds):
    facts = {name: [read(file) for file in files] for name, files in seeds.items()}
    for name, all_facts in facts.items():
        with context.target_cell(ctxt, cells[name]) as cctxt:
            for host in sorted({facts.get("host", "node") for facts in all_facts}):
                serve(cctxt, host)
            for facts in all_facts:
                create(cctxt, facts)
                map_to(ctxt, cells[name], facts["instance"])


def move(ctxt, cell, facts):
    mapping = objects.InstanceMapping.get_by_instance_uuid(ctxt, facts["instance"]["uuid"])
    former = mapping.cell_mapping
    with context.target_cell(ctxt, cell) as cctxt:
        create(cctxt, facts)
    mapping.cell_mapping = cell
    mapping.save()
    with context.target_cell(ctxt, former) as cctxt:
        objects.Instance.get_by_uuid(cctxt, mapping.instance_uuid).destroy()


def by_cell(words):
    seeds = {}
    for word in words:
        if word.endswith(".json"):
            seeds[name].append(word)
        else:
            name = word
            seeds[name] = []
    return seeds


def main():
    config.parse_args(["seed", "--config-file", sys.argv[1]])
    verb, rest = sys.argv[2], sys.argv[3:]
    if verb == "create":
        place(os.path.dirname(sys.argv[1]), list(by_cell(rest)))
    objects.register_all()
    ctxt = context.get_admin_context()
    cells = {cell.name: cell for cell in objects.CellMappingList.get_all(ctxt)}
    if verb == "create":
        create_all(ctxt, cells, by_cell(rest))
        return
    if verb == "move":
        move(ctxt, cells[rest[0]], read(rest[1]))
        return
    with context.target_cell(ctxt, cells["cell1"]) as cctxt:
        if verb == "set":
            change(cctxt, *rest)
        elif verb == "follow":
            print("ready", flush=True)
            for line in sys.stdin:
                change(cctxt, *line.split())
                print("set", flush=True)
        elif verb == "delete":
            objects.Instance.get_by_uuid(cctxt, rest[0]).destroy()
            objects.InstanceMapping.get_by_instance_uuid(ctxt, rest[0]).destroy()


main()
