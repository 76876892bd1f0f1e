"""What scripts/bench mounts with: imgmount and qemu-storage-daemon behind one shape, and a clean-up that always runs.

A mount whose server hangs would hang whoever touches it, us included. So every command has a time limit, and the way out
is: ask nicely, then abort the FUSE connection in sysfs (every waiting request fails at once), then unmount lazily.
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time


class BenchError(Exception):
    """Something that the user must know; shown without a stack trace."""


def run(command, seconds=60, environment=None):
    """Output of a command; its own process group, so that a time-out ends its children too."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=environment, start_new_session=True)
    try:
        output, errors = process.communicate(timeout=seconds)
    except BaseException:
        # Also on Ctrl-C and SIGTERM: a load generator must not go on by itself.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode != 0:
        detail = (errors or output).strip()[-2000:]
        raise BenchError(f"{' '.join(command[:3])} … exited with {process.returncode}: {detail}")
    return output


def processor_name():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return os.uname().machine


def mount_entry(path):
    """Device number 'major:minor' of the mount at PATH, or None. Reads a table only: never touches the mount."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            if fields[4] == path:
                return fields[2]
    return None


def alive(pid):
    """Zombies do not count: a daemon's parent is whoever reaps orphans here, sometimes nobody."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def wait_until_gone(pid, seconds):
    limit = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


class Ours:
    """imgmount, on a directory."""

    def __init__(self, executable, transport="", extra=()):
        self.executable = executable
        self.extra = [*(["--transport", transport] if transport else []), *extra]

    def shown(self, cache):
        return " ".join(["imgmount mount disk.qcow2 DIR --cache", cache, *self.extra])

    def start(self, image, point, cache, read_only, pidfile):
        os.mkdir(point)
        command = [self.executable, "mount", image, point, "--cache", cache, "--pidfile", pidfile, *self.extra]
        run([*command, "--read-only"] if read_only else command)
        return os.path.join(point, "disk.raw")

    def stop(self, point, pid):
        run([self.executable, "umount", point])
        if not wait_until_gone(pid, 10):
            raise BenchError("imgmount's process is still there after 'imgmount umount'")

    def statistics(self, point):
        """(requests, bytes allocated on the managed heap) since the mount."""
        with open(os.path.join(point, ".imgmount", "stats.json"), encoding="utf-8") as file:
            report = json.load(file)
        return report["fuse"]["requests"], report["managed-allocated-bytes"]


class Peer:
    """qemu-storage-daemon with a FUSE export, which replaces a regular file."""

    def __init__(self, aio, driver=None, key=None):
        self.aio, self.driver, self.key = aio, driver, key

    def arguments(self, image, point, cache, read_only):
        direct = "on" if cache in ("none", "directsync") else "off"
        # native needs O_DIRECT; the buffered mounts here measure start and memory only.
        aio = "threads" if self.aio == "native" and direct == "off" else self.aio
        access = "read-only=on" if read_only else "read-only=off"
        driver = self.driver or ("raw" if image.endswith(".raw") else "qcow2")
        secret = ["--object", f"secret,id=k,file={self.key}"] if self.key else []
        unlock = ",key-secret=k" if self.key else ""
        return [*secret, "--blockdev", f"driver=file,node-name=f,filename={image},cache.direct={direct},aio={aio},{access}",
                "--blockdev", f"driver={driver},node-name=d,file=f,cache.direct={direct},{access}{unlock}",
                "--export", f"type=fuse,id=e,node-name=d,mountpoint={point},writable={'off' if read_only else 'on'}"]

    def shown(self, cache):
        return " ".join(["qemu-storage-daemon", *self.arguments("disk.qcow2", "FILE", cache, False)])

    def start(self, image, point, cache, read_only, pidfile):
        with open(point, "wb"):
            pass
        run(["qemu-storage-daemon", *self.arguments(image, point, cache, read_only), "--pidfile", pidfile,
             "--daemonize"])
        return point

    def stop(self, _point, pid):
        os.kill(pid, signal.SIGTERM)
        if not wait_until_gone(pid, 20):
            raise BenchError("qemu-storage-daemon did not end")


class Mount:
    """A mount in use."""

    def __init__(self, side, point, disk, pid, ready_seconds):
        self.side, self.point, self.disk, self.pid, self.ready_seconds = side, point, disk, pid, ready_seconds

    def peak_memory_mib(self):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        raise BenchError(f"process {self.pid} does not tell its peak memory")

    def statistics(self):
        return self.side.statistics(self.point)


class Mounts(contextlib.AbstractContextManager):
    """Owns the working folder and every process that serves a mount in it."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0
        self.live = {}

    def __enter__(self):
        os.makedirs(self.folder, mode=0o700)
        return self

    def __exit__(self, *_):
        for point in list(self.live):
            self.tear_down(point)
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def mounted(self, side, image, cache, read_only=False):
        self.count += 1
        point = os.path.join(self.folder, f"m{self.count}")
        pidfile = point + ".pid"
        self.live[point] = pidfile
        try:
            started = time.monotonic()
            disk = side.start(image, point, cache, read_only, pidfile)
            ready_seconds = time.monotonic() - started
            with open(pidfile, encoding="utf-8") as file:
                pid = int(file.read())
            # A side that failed to mount would leave fio measuring the bare folder or file.
            if mount_entry(point) is None and mount_entry(disk) is None:
                raise BenchError(f"nothing is mounted at {point}")
            yield Mount(side, point, disk, pid, ready_seconds)
            side.stop(point, pid)
        finally:
            self.tear_down(point)

    def tear_down(self, point):
        """Leaves nothing at POINT, whatever state it is in. Ends only the process named in our own pidfile."""
        pidfile = self.live.pop(point, None)
        device = mount_entry(point)
        if device is not None:
            with contextlib.suppress(OSError):
                with open(f"/sys/fs/fuse/connections/{device.split(':')[1]}/abort", "w", encoding="utf-8") as file:
                    file.write("1")
            unmount = ["umount", "-l"] if os.getuid() == 0 else ["fusermount3", "-u", "-z"]
            with contextlib.suppress(BenchError, subprocess.TimeoutExpired):
                run([*unmount, point], seconds=10)
        with contextlib.suppress(OSError, ValueError, TypeError):
            with open(pidfile, encoding="utf-8") as file:
                pid = int(file.read())
            if alive(pid):
                os.kill(pid, signal.SIGTERM)
                if not wait_until_gone(pid, 5):
                    os.kill(pid, signal.SIGKILL)
        for path, remove in ((point, os.rmdir), (point, os.unlink), (pidfile, os.unlink)):
            with contextlib.suppress(OSError, TypeError):
                remove(path)
