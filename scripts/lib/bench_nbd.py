"""The NBD workload of scripts/bench: one server, both sides as its clients, on loopback and through a slow wire."""
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

from bench_mounts import BenchError, Peer, run, wait_until_gone


class NbdPeer(Peer):
    """qemu-storage-daemon as a client of an NBD server."""

    def __init__(self, port):
        super().__init__("")
        self.port = port

    def arguments(self, image, point, cache, read_only):
        return ["--blockdev", f"driver=nbd,node-name=d,server.type=inet,server.host=127.0.0.1,server.port={self.port},"
                f"read-only=on", "--export", f"type=fuse,id=e,node-name=d,mountpoint={point},writable=off"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(folder, raw):
    """nbdkit on a TCP port and, for the proxy, another one on a unix socket."""
    port, path, pids = free_port(), os.path.join(folder, "nbd.sock"), []
    try:
        for name, where in (("tcp", ["-i", "127.0.0.1", "-p", str(port)]), ("unix", ["-U", path])):
            pidfile = os.path.join(folder, f"nbdkit-{name}.pid")
            run(["nbdkit", "-r", "-t", "32", "-P", pidfile, *where, "file", raw])
            limit = time.monotonic() + 10
            while not os.path.exists(pidfile):
                if time.monotonic() > limit:
                    raise BenchError("nbdkit did not start")
                time.sleep(0.01)
            with open(pidfile, encoding="utf-8") as file:
                pids.append(int(file.read()))
        yield port, path
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
            wait_until_gone(pid, 5)
        with contextlib.suppress(OSError):
            os.unlink(path)


@contextlib.contextmanager
def slow_wire(path, milliseconds):
    port = free_port()
    with delay_proxy(str(port), path, milliseconds):
        yield port


@contextlib.contextmanager
def delay_proxy(ports, target, milliseconds):
    script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "delay_proxy.py")
    proxy = subprocess.Popen([sys.executable, script, ports, target, str(milliseconds)],
                             stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        if not proxy.stdout.readline():
            raise BenchError("the delay proxy did not start")
        yield
    finally:
        proxy.kill()
        proxy.wait()
