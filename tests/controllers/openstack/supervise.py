"""Starts processes, and ends them all with itself: when its standard input ends, however its starter ended.

Each line on standard input is JSON, and is answered by a line with a process id:
- {"log": PATH, "command": [...], "environment": {...}}: a program.
- {"nova": "conductor"|"scheduler"|"compute", "host": NAME, "directory": PATH}: one of Nova's services, by fork: Nova is imported once for
  all of them, which takes seconds. Each runs its own `main`, in a process of its own, and writes NAME.ready when it takes requests.
- {"import": true} imports Nova ahead of the first of these; answered by 0.

Nova's hosts have `LabDriver`, which is Nova's own fake driver, with live migrations that take as long as the file `migration` says.
"""
import ctypes
import json
import os
import signal
import sys
import time
import traceback


def begin(log):
    """Makes this a process that ends with the supervisor, with its output in a file."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    output = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(file, number)


def execute(line):
    begin(line["log"])
    os.execvpe(line["command"][0], line["command"], line["environment"])


def import_nova():
    import nova.cmd.compute
    import nova.cmd.conductor
    import nova.cmd.scheduler
    import nova.compute.manager
    import nova.conductor.manager
    import nova.scheduler.manager
    import nova.service
    import nova.virt.fake

    class LabDriver(nova.virt.fake.FakeDriverWithoutFakeNodes):
        def live_migration(self, context, instance, dest, post_method, recover_method, block_migration=False,
                           migrate_data=None):
            with open(os.path.join(os.environ["LAB_DIRECTORY"], "migration")) as seconds:
                end = time.monotonic() + float(seconds.read())
            while time.monotonic() < end:
                time.sleep(0.02)
            post_method(context, instance, dest, block_migration, migrate_data)

        def post_live_migration(self, context, instance, block_device_info, migrate_data=None):
            self.instances.pop(instance.uuid, None)

        def cleanup(self, *words, **named):
            pass

    nova.virt.fake.LabDriver = LabDriver
    # One process each, without a parent that only watches it.
    serve = nova.service.serve
    nova.service.serve = lambda server, workers=None, no_fork=True: serve(server, workers=1, no_fork=True)


def serve_nova(program, host, directory):
    begin(f"{directory}/{program}-{host}.out")
    import nova.cmd
    import nova.service
    os.environ["LAB_DIRECTORY"] = directory
    state = f"{directory}/{program}-{host}"
    os.makedirs(state, exist_ok=True)
    with open(f"{state}/own.conf", "w") as text:
        text.write(f"[DEFAULT]\nhost = {host}\nstate_path = {state}\nlog_file = {directory}/{program}-{host}.log\n")
    start = nova.service.Service.start

    def start_and_say(service):
        start(service)
        open(f"{state}.ready", "w").close()

    nova.service.Service.start = start_and_say
    sys.argv = [f"nova-{program}", "--config-file", f"{directory}/nova.conf", "--config-file", f"{state}/own.conf"]
    getattr(nova.cmd, program).main()


def fork(work, *words):
    process = os.fork()
    if process != 0:
        return process
    try:
        work(*words)
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)
imported = False
for text in sys.stdin:
    line = json.loads(text)
    if ("import" in line or "nova" in line) and not imported:
        import_nova()
        imported = True
    if "import" in line:
        print(0, flush=True)
    elif "nova" in line:
        print(fork(serve_nova, line["nova"], line["host"], line["directory"]), flush=True)
    else:
        print(fork(execute, line), flush=True)
