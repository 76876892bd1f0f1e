"""The workloads of scripts/bench over HTTP, FTP, SSH, iSCSI and GlusterFS: one server, both sides as its clients.

A server is a context manager that yields how to reach it: the target of a delay proxy, and what both sides are given for
a port (its own, or the proxy's).
"""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from bench_mounts import BenchError, Peer, run, wait_until_gone
from bench_nbd import delay_proxy, free_port

FTP_PORTS = 40
PYTHON = "/usr/bin/python3"


class RemotePeer(Peer):
    """qemu-storage-daemon as a client of a server."""

    def __init__(self, blockdev):
        super().__init__("")
        self.blockdev = blockdev

    def arguments(self, image, point, cache, read_only):
        return ["--blockdev", f"{self.blockdev},node-name=d,read-only=on",
                "--export", f"type=fuse,id=e,node-name=d,mountpoint={point},writable=off"]


class GlusterPeer(RemotePeer):
    """libgfapi keeps standard error open for its log after --daemonize: nobody may wait for its end."""

    def start(self, image, point, cache, read_only, pidfile):
        with open(point, "wb"):
            pass
        subprocess.run(["qemu-storage-daemon", *self.arguments(image, point, cache, read_only), "--pidfile", pidfile,
                        "--daemonize"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=60, check=True)
        return point

    def stop(self, _point, pid):
        # The library takes 10 s to end, and more.
        os.kill(pid, signal.SIGTERM)
        if not wait_until_gone(pid, 60):
            raise BenchError("qemu-storage-daemon did not end")


class Server:
    """A server that runs. PORT is where it listens, on HOST."""

    def __init__(self, port, host="127.0.0.1", last_port=None):
        self.host, self.port, self.last_port = host, port, last_port

    @contextlib.contextmanager
    def at(self, milliseconds):
        """The port for clients on 127.0.0.1, with a slow wire before it."""
        if milliseconds == 0 and self.host == "127.0.0.1":
            yield self.port
        elif self.last_port is not None:
            with delay_proxy(f"{self.port}-{self.last_port}", self.host, milliseconds):
                yield self.port
        else:
            port = free_port()
            with delay_proxy(str(port), f"{self.host}:{self.port}", milliseconds):
                yield port


@contextlib.contextmanager
def process(command, host, port):
    """A server in the foreground, which is there when its port is."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        limit = time.monotonic() + 10
        while True:
            if child.poll() is not None or time.monotonic() > limit:
                child.kill()
                raise BenchError(f"{command[0]} did not start: {child.communicate()[1].decode()[-500:]}")
            with contextlib.suppress(OSError), socket.create_connection((host, port)):
                break
            time.sleep(0.02)
        yield
    finally:
        child.terminate()
        if not wait_until_gone(child.pid, 5):
            child.kill()
        child.communicate()


def missing_tool(*tools):
    return next((tool for tool in tools if shutil.which(tool) is None), None)


class Http:
    """nginx, and QEMU's curl driver."""

    title = "HTTP"

    def missing(self):
        return missing_tool("nginx")

    @contextlib.contextmanager
    def server(self, folder, raw):
        port = free_port()
        config = os.path.join(folder, "nginx.conf")
        user = "user root;" if os.getuid() == 0 else ""
        paths = "".join(f"{name}_temp_path {folder}/nginx-{name};"
                        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"daemon off; worker_processes 2; {user} pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
                       "events { worker_connections 256; }\n"
                       f"http {{ access_log off; sendfile on; keepalive_requests 1000000; {paths}\n"
                       f"server {{ listen 127.0.0.1:{port}; root {os.path.dirname(raw)}; }} }}\n")
        with process(["nginx", "-e", f"{folder}/nginx.log", "-c", config], "127.0.0.1", port):
            yield Server(port)

    def sides(self, port, raw):
        url = f"http://127.0.0.1:{port}/{os.path.basename(raw)}"
        return url, RemotePeer(f"driver=http,url={url}")


class Ftp:
    """A server of our own, and QEMU's curl driver."""

    title = "FTP"

    def missing(self):
        # Debian's Python, which has Debian's modules.
        found = subprocess.run([PYTHON, "-c", "import pyftpdlib"], stderr=subprocess.DEVNULL, check=False)
        return None if found.returncode == 0 else "pyftpdlib"

    @contextlib.contextmanager
    def server(self, folder, raw):
        # The proxy has the same ports on another address, because the server tells the ports of its transfers.
        port = free_port_range(FTP_PORTS + 1)
        host = "127.0.0.2"
        script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "ftp_server.py")
        command = [PYTHON, script, host, str(port), str(port + 1), str(port + FTP_PORTS), os.path.dirname(raw)]
        with process(command, host, port):
            yield FtpServer(port, host, port + FTP_PORTS)

    def sides(self, port, raw):
        host = port if isinstance(port, str) else f"127.0.0.1:{port}"
        url = f"ftp://{host}/{os.path.basename(raw)}"
        return url, RemotePeer(f"driver=ftp,url={url}")


class FtpServer(Server):
    """Reached directly by its own address."""

    @contextlib.contextmanager
    def at(self, milliseconds):
        if milliseconds == 0:
            yield f"{self.host}:{self.port}"
        else:
            with super().at(milliseconds) as port:
                yield port


class Ssh:
    """sshd, and QEMU's libssh. The key is in an agent, from where both sides take it."""

    title = "SSH"

    def missing(self):
        return "root" if os.getuid() != 0 else missing_tool("sshd", "ssh", "ssh-agent", "ssh-add", "ssh-keygen")

    @contextlib.contextmanager
    def server(self, folder, raw):
        port, agent = free_port(), os.path.join(folder, "agent.sock")
        for name in ("host", "id"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(folder, name)])
        os.makedirs("/run/sshd", exist_ok=True)
        config = os.path.join(folder, "sshd_config")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\n"
                       f"AuthorizedKeysFile {folder}/id.pub\nPasswordAuthentication no\nUsePAM no\n"
                       "PermitRootLogin prohibit-password\nMaxStartups 100\nSubsystem sftp internal-sftp\n")
        before = os.environ.get("SSH_AUTH_SOCK")
        helper = subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            limit = time.monotonic() + 10
            while not os.path.exists(agent):
                if time.monotonic() > limit:
                    raise BenchError("ssh-agent did not start")
                time.sleep(0.02)
            os.environ["SSH_AUTH_SOCK"] = agent
            run(["ssh-add", "-q", os.path.join(folder, "id")])
            with process([shutil.which("sshd"), "-D", "-e", "-f", config], "127.0.0.1", port):
                yield Server(port)
        finally:
            helper.kill()
            helper.wait()
            if before is None:
                os.environ.pop("SSH_AUTH_SOCK", None)
            else:
                os.environ["SSH_AUTH_SOCK"] = before

    def sides(self, port, raw):
        source = "json:" + json.dumps({"driver": "raw", "file": {
            "driver": "ssh", "host": "127.0.0.1", "port": port, "user": "root", "path": raw,
            "host-key-check.mode": "none", "config": "none"}})
        return source, RemotePeer(f"driver=ssh,server.host=127.0.0.1,server.port={port},user=root,path={raw},"
                                  "host-key-check.mode=none")


class Iscsi:
    """tgtd, and QEMU's libiscsi."""

    title = "iSCSI"
    target = "iqn.2024-01.bench.local:disk"

    def missing(self):
        return "root" if os.getuid() != 0 else missing_tool("tgtd", "tgtadm")

    @contextlib.contextmanager
    def server(self, folder, raw):
        port = free_port()
        where = f"TGT_IPC_SOCKET={folder}/tgtd.sock"
        admin = ["env", where, "tgtadm", "-C", "0", "--lld", "iscsi", "--op"]
        with process(["env", where, "tgtd", "-f", "-C", "0", "--iscsi", f"portal=127.0.0.1:{port}"], "127.0.0.1", port):
            try:
                run([*admin, "new", "--mode", "target", "--tid", "1", "-T", self.target])
                run([*admin, "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", raw])
                run([*admin, "bind", "--mode", "target", "--tid", "1", "-I", "ALL"])
                yield Server(port)
            finally:
                # It does not end for a signal.
                run([*admin, "delete", "--force", "--mode", "target", "--tid", "1"])
                run(["env", where, "tgtadm", "-C", "0", "--op", "delete", "--mode", "system"])

    def sides(self, port, raw):
        return (f"iscsi://127.0.0.1:{port}/{self.target}/1",
                RemotePeer(f"driver=iscsi,transport=tcp,portal=127.0.0.1:{port},target={self.target},lun=1"))


class Gluster:
    """glusterd with a volume of one brick, and QEMU's libgfapi. Its port is fixed, so it has an address of its own."""

    title = "GlusterFS"
    host = "127.24.7.2"

    def missing(self):
        return "root" if os.getuid() != 0 else missing_tool("glusterd", "gluster")

    @contextlib.contextmanager
    def server(self, folder, raw):
        del raw
        work = os.path.join(folder, "gluster")
        for name in ("work", "run", "log", "brick"):
            os.makedirs(os.path.join(work, name), exist_ok=True)
        config, control = os.path.join(work, "glusterd.vol"), os.path.join(work, "glusterd.sock")
        with open(config, "w", encoding="utf-8") as file:
            file.write("volume management\n    type mgmt/glusterd\n"
                       f"    option working-directory {work}/work\n    option run-directory {work}/run\n"
                       f"    option logging-directory {work}/log\n    option glusterd-sockfile {control}\n"
                       "    option transport-type socket\n    option transport.socket.listen-port 24007\n"
                       f"    option transport.socket.bind-address {self.host}\n    option ping-timeout 0\n"
                       "    option event-threads 1\n    option base-port 49152\n    option max-port 60999\n"
                       "end-volume\n")
        admin = ["gluster", "--mode=script", f"--log-file={work}/log/cli.log", f"--glusterd-sock={control}", "volume"]
        with process(["glusterd", "-N", "-f", config, "-l", f"{work}/log/glusterd.log", "-p", f"{work}/glusterd.pid"],
                     self.host, 24007):
            retry([*admin, "list"], 30)
            run([*admin, "create", "bench", f"{self.host}:{work}/brick", "force"], seconds=60)
            run([*admin, "start", "bench"], seconds=60)
            try:
                yield GlusterVolume(24007, self.host, os.path.join(work, "brick"))
            finally:
                run([*admin, "stop", "bench", "force"], seconds=60)

    def sides(self, brick, raw):
        # A brick keeps its files as they are, so a hard link is a copy that takes no time.
        name = os.path.basename(raw)
        if not os.path.exists(os.path.join(brick, name)):
            os.link(raw, os.path.join(brick, name))
        return (f"gluster://{self.host}/bench/{name}",
                GlusterPeer(f"driver=gluster,volume=bench,path={name},server.0.type=inet,server.0.host={self.host},"
                            "server.0.port=24007"))


class GlusterVolume(Server):
    """Reached directly only: a brick's port is not known before."""

    def __init__(self, port, host, brick):
        super().__init__(port, host)
        self.brick = brick

    @contextlib.contextmanager
    def at(self, milliseconds):
        if milliseconds:
            raise BenchError("no slow wire before a GlusterFS volume")
        yield self.brick


def retry(command, seconds):
    """Until the command succeeds."""
    limit = time.monotonic() + seconds
    while subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         check=False).returncode != 0:
        if time.monotonic() > limit:
            raise BenchError(f"{command[0]} did not answer in {seconds} s")
        time.sleep(0.2)


PROTOCOLS = {"http": Http(), "ftp": Ftp(), "ssh": Ssh(), "iscsi": Iscsi(), "gluster": Gluster()}


def free_port_range(count):
    """The first of COUNT ports in a row that nobody listens on."""
    for first in range(21000, 30000, count):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                for host in ("127.0.0.1", "127.0.0.2"):
                    probe = stack.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, port))
            return first
    raise BenchError(f"there are no {count} free ports in a row")
