# Asks for metadata until a file appears: usage: ask FILE. Prints "begun" once every thread has been answered, and at the end what came
# of it: requests, those that failed, connections that were refused, and the longest time from asking to the answer.
import http.client
import os
import sys
import threading
import time

HOST, PATH, THREADS = "169.254.169.254", "/latest/meta-data/hostname", 2
end, lock, begun = sys.argv[1], threading.Lock(), threading.Barrier(2 * THREADS + 1)
asked, refused, faults, longest = 0, 0, [], 0.0


def ask(connection):
    connection.request("GET", PATH)
    answer = connection.getresponse()
    body = answer.read().decode()
    if answer.status != 200 or not body.startswith("packaged"):
        raise ValueError(f"status {answer.status}, body {body}")
    return answer.will_close


def loop(keeps):
    global asked, refused, longest
    connection, first = None, True
    while first or not os.path.exists(end):
        start = time.monotonic()
        try:
            if connection is None:
                connection = http.client.HTTPConnection(HOST, timeout=120)
            if ask(connection) or not keeps:
                connection.close()
                connection = None
        except Exception as error:
            with lock:
                faults.append(f"{'kept' if keeps else 'new'}: {error!r}")
                refused += isinstance(error, ConnectionRefusedError)
            connection = None
        with lock:
            asked += 1
            if not keeps:
                longest = max(longest, time.monotonic() - start)
        if first:
            first = False
            begun.wait()
        # The machine has one processor, which others need as well.
        time.sleep(0.4)


threads = [threading.Thread(target=loop, args=(number < THREADS,)) for number in range(2 * THREADS)]
for thread in threads:
    thread.start()
begun.wait()
print("begun", flush=True)
for thread in threads:
    thread.join()
print(f"asked {asked} failed {len(faults)} refused {refused}")
print(f"longest {longest:.1f} s")
for fault in faults:
    print("fault", fault)
