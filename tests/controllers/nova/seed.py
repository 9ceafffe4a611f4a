"""Puts instances into Nova's own database, with Nova's own objects.

usage: seed.py NOVA_CONF create facts.json...
       seed.py NOVA_CONF set UUID KEY VALUE       (one key of its metadata)
       seed.py NOVA_CONF follow                   (the same for each line UUID KEY VALUE that it reads, and says so)
       seed.py NOVA_CONF delete UUID
Facts are as tests/golden has them.
"""

import json
import sys

from nova import config, context, objects
from nova.db.main import api as db
from nova.db.main import models
from nova.network import model as network
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


def device(facts):
    fields = {key: facts[key] for key in DEVICE_KEYS if key in facts}
    if "bus" in facts:
        fields["bus"] = BUSES[facts["bus"]["type"]](address=facts["bus"]["address"])
    return KINDS[facts["kind"]](**fields)


def create(ctxt, cctxt, cell, facts, images):
    instance, numbers = facts["instance"], facts["ec2_ints"]
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
    made.vm_state, made.power_state, made.host = "active", 1, "node"
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
    objects.InstanceMapping(
        ctxt, instance_uuid=instance["uuid"], cell_mapping=cell, project_id=instance["project_id"],
        user_id=instance["user_id"], queued_for_delete=False,
    ).create()


def change(cctxt, uuid, key, value):
    instance = objects.Instance.get_by_uuid(cctxt, uuid, expected_attrs=["metadata"])
    instance.metadata = {**instance.metadata, key: value}
    instance.save()


def main():
    config.parse_args(["seed", "--config-file", sys.argv[1]])
    objects.register_all()
    ctxt = context.get_admin_context()
    [cell] = [cell for cell in objects.CellMappingList.get_all(ctxt) if cell.name == "cell1"]
    verb, rest = sys.argv[2], sys.argv[3:]
    with context.target_cell(ctxt, cell) as cctxt:
        if verb == "create":
            images = set()
            for name in rest:
                with open(name, encoding="utf-8") as file:
                    create(ctxt, cctxt, cell, json.load(file), images)
        elif verb == "set":
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
