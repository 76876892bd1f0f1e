"""The remote-cache workload of scripts/bench: a web server for one folder."""
import contextlib
import os
import signal
import subprocess
import time

from bench_mounts import BenchError, wait_until_gone
from bench_nbd import free_port


@contextlib.contextmanager
def server(folder, name):
    """nginx on a free port of the loopback; gives the URL of a file in the folder."""
    port, own = free_port(), os.path.join(folder, "nginx")
    os.mkdir(own)
    # A file that was made just now has no time that tells its state.
    hour_ago = time.time() - 3600
    os.utime(os.path.join(folder, name), (hour_ago, hour_ago))
    user = "user root;" if os.geteuid() == 0 else ""
    temp = " ".join(f"{kind}_temp_path {own};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(os.path.join(own, "conf"), "w", encoding="utf-8") as file:
        file.write(f"daemon off; worker_processes 1; {user} pid {own}/pid; error_log {own}/error;\n"
                   f"events {{}} http {{ access_log off; sendfile on; {temp}\n"
                   f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n")
    process = subprocess.Popen(["nginx", "-c", os.path.join(own, "conf")], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 10
        while not os.path.exists(os.path.join(own, "pid")):
            if process.poll() is not None or time.monotonic() > limit:
                raise BenchError("nginx did not start")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/{name}"
    finally:
        process.send_signal(signal.SIGTERM)
        if not wait_until_gone(process.pid, 5):
            process.kill()
        process.wait()
