"""Makes one program's empty databases in a directory that has its configuration.

Arguments: the program, the directory. Keystone's has its keys, the administrator, and the services of the catalogue with the port of each
as a name, such as `@NOVA@`; Nova's has flavors.
"""
import os
import sqlite3
import sys
import uuid

program, directory = sys.argv[1:]
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"
os.chdir(directory)
configuration = f"{directory}/{program}.conf"


def run(main, *words):
    """Runs a program's `main` in a process of its own, since it expects to be the first, without importing the program again."""
    process = os.fork()
    if process == 0:
        sys.argv = [program, "--config-file", configuration, *words]
        sys.exit(main())
    status = os.waitpid(process, 0)[1]
    if status:
        sys.exit(f"{' '.join(words)}: {status}")


def keystone():
    from keystone.cmd.manage import main
    for name in ("fernet", "credential"):
        os.mkdir(f"{directory}/{name}", 0o700)
    user = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
    run(main, "db_sync")
    run(main, "fernet_setup", *user)
    run(main, "credential_setup", *user)
    run(main, "bootstrap", "--bootstrap-password", "admin-secret", "--bootstrap-region-id", "RegionOne",
        "--bootstrap-public-url", "http://127.0.0.1:@KEYSTONE@/v3")
    database = sqlite3.connect(f"{directory}/keystone.sqlite")
    (role,), = database.execute("select id from role where name = 'service'").fetchall()
    (user, project), = database.execute(
        "select distinct actor_id, target_id from assignment where type = 'UserProject'").fetchall()
    database.execute("insert into assignment (type, actor_id, target_id, role_id, inherited) "
                     "values ('UserProject', ?, ?, ?, 0)", (user, project, role))
    for kind, url in (("compute", "http://127.0.0.1:@NOVA@/v2.1"), ("placement", "http://127.0.0.1:@PLACEMENT@"),
                      ("network", "http://127.0.0.1:@NEUTRON@"), ("image", "http://127.0.0.1:@IMAGE@")):
        service = uuid.uuid4().hex
        database.execute("insert into service (id, type, enabled, extra) values (?, ?, 1, ?)",
                         (service, kind, f'{{"name": "{kind}"}}'))
        database.execute("insert into endpoint (id, interface, region_id, service_id, url, enabled, extra) "
                         "values (?, 'public', 'RegionOne', ?, ?, 1, '{}')", (uuid.uuid4().hex, service, url))
    database.commit()


def placement():
    from placement.cmd.manage import main
    run(main, "db", "sync")


def neutron():
    # Its migrations are not for SQLite; its own tests make the newest schema in the same way.
    import sqlalchemy
    from neutron.db.migration.models import head
    head.get_metadata().create_all(sqlalchemy.create_engine(f"sqlite:///{directory}/neutron.sqlite"))


def nova():
    from nova.cmd.manage import main
    database = f"sqlite:///{directory}/"
    run(main, "api_db", "sync")
    run(main, "cell_v2", "map_cell0", "--database_connection", database + "cell0.sqlite")
    run(main, "db", "sync")
    run(main, "cell_v2", "create_cell", "--name", "cell1", "--transport-url", "fake://", "--database_connection",
        database + "cell1.sqlite")
    run(flavors)


def flavors():
    from nova import config, context, objects
    config.parse_args(sys.argv)
    objects.register_all()
    for number, name in enumerate(("tiny", "small"), 1):
        objects.Flavor(context.get_admin_context(), flavorid=str(number), name=name, memory_mb=64 * number, vcpus=1,
                       root_gb=0, ephemeral_gb=0, swap=0, rxtx_factor=1, vcpu_weight=0, is_public=True,
                       disabled=False).create()


globals()[program]()
for name in os.listdir(directory):
    if name.endswith(".sqlite"):
        sqlite3.connect(f"{directory}/{name}").execute("pragma journal_mode = wal")
