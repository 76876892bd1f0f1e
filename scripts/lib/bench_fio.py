"""fio for scripts/bench: one measurement is one number, operations or bytes a second."""
import json

from bench_mounts import BenchError, run


class Fio:
    def __init__(self, mounts, size_mib):
        self.folder = mounts.folder
        self.size = f"{size_mib}M"

    def call(self, target, arguments, seconds):
        # psync: one request at a time per job, as most programs do; group_reporting: jobs are added up.
        # allow_file_create=0: a missing mount is an error, not a new file. --eta=never: plain JSON on standard output.
        output = run(["fio", "--name=bench", f"--filename={target}", "--ioengine=psync", "--group_reporting",
                      "--allow_file_create=0", "--eta=never", "--output-format=json", f"--aux-path={self.folder}",
                      *arguments], seconds=seconds)
        job = json.loads(output[output.index("{"):])["jobs"][0]
        if job["error"] != 0:
            raise BenchError(f"fio reports error {job['error']} on {target}")
        return job

    def measure(self, target, arguments, seconds, ramp):
        """IOPS for small blocks, bytes a second for large ones."""
        direct = [] if any(argument.startswith("--direct") for argument in arguments) else ["--direct=1"]
        job = self.call(target, [*arguments, *direct, f"--size={self.size}", "--time_based", f"--runtime={seconds}",
                                 f"--ramp_time={ramp}", "--randrepeat=0"], seconds + ramp + 45)
        side = job["read"] if "read" in arguments[0] else job["write"]
        return side["bw_bytes"] if "--bs=1M" in arguments else side["iops"]

    def fill(self, target, more=()):
        """Reads everything once, so that what follows finds the page cache filled."""
        self.call(target, ["--rw=read", "--bs=1M", "--direct=0", f"--size={self.size}", *more], 120)

    def sweep(self, target, kind, gib, operations):
        """OPERATIONS requests of 4 KiB, each in another 64 KiB cluster, in random order over the whole disk."""
        self.call(target, [f"--rw={kind}", "--bs=4k", "--blockalign=64k", "--direct=1", f"--size={gib}G",
                           f"--io_size={operations * 4096}", "--randrepeat=1"], 300)
