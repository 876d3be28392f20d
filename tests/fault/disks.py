"""Small file systems of their own for tests: one in memory, one on a file, which can be filled, made read-only or cut off
from its disk in mid-flight. Only root may mount; what cannot be mounted raises Unavailable."""
import contextlib
import ctypes
import fcntl
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

# linux/ext4.h: _IOR('X', 125, __u32), and its flag that drops what the journal has not yet written
EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH = 0x8004587D, 2
CLONE_NEWNS = 0x20000  # sched.h


class Unavailable(Exception):
    """A file system cannot be mounted here; says why."""


def command(*words):
    try:
        result = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        raise Unavailable(f"there is no {words[0]}") from missing
    if result.returncode != 0:
        raise Unavailable(f"{words[0]}: {result.stderr.strip()}")


def private():
    """From here on, what this process and its children mount is seen by them alone and goes with the last of them, however
    they end. To be called before there are threads."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise Unavailable(f"no mounts of one's own: {os.strerror(ctypes.get_errno())}")
    command("mount", "--make-rprivate", "/")


def run(main):
    """End this process with the status of main(scratch), whose mounts are its own; skipped where there can be none."""
    try:
        private()
    except Unavailable as unavailable:
        print(unavailable)
        sys.exit(77)
    with tempfile.TemporaryDirectory() as name:
        status = main(pathlib.Path(name).resolve())
    sys.exit(status)


class Disk:
    """A mounted file system. `directory` is where."""

    def __init__(self, directory, *mounting):
        self.directory, self.mounting = pathlib.Path(directory), mounting
        self.mount()

    def mount(self):
        command("mount", *self.mounting, self.directory)

    def unmount(self):
        """Processes that were killed may still be about to close their files."""
        for _ in range(500):
            if subprocess.run(["umount", self.directory], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(0.01)
        raise SystemExit(f"FAILED: {self.directory} cannot be unmounted")

    def remount(self, options):
        command("mount", "-o", f"remount,{options}", self.directory)

    def fill(self, left):
        """Leave so many bytes free; returns the file that takes the rest."""
        ballast, room = self.directory / "ballast", os.statvfs(self.directory)
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - left)
        return ballast

    def cut(self):
        """As if the power failed: from now on nothing reaches the disk, and what had not is lost. Only ext4."""
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, struct.pack("I", EXT4_GOING_FLAGS_NOLOGFLUSH))
        except OSError as refused:
            raise Unavailable(f"a file system cannot be shut down: {refused}") from refused
        finally:
            os.close(directory)

    def power_on(self):
        """Mount again what was cut; the journal is replayed."""
        self.unmount()
        self.mount()


@contextlib.contextmanager
def mounted(directory, *mounting):
    directory.mkdir()
    disk = Disk(directory, *mounting)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", directory], stderr=subprocess.DEVNULL, check=False)  # also the loop device


def memory(directory, size):
    """A file system in memory of so many bytes."""
    return mounted(directory, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")


def ext4(directory, size):
    """ext4 on a file of so many bytes beside the directory; what nobody flushes stays in memory for minutes."""
    image = directory.with_suffix(".image")
    with open(image, "wb") as file:
        file.truncate(size)
    command("mkfs.ext4", "-q", "-b", "4096", "-m", "0", image)
    return mounted(directory, "-t", "ext4", "-o", "loop,commit=300", image)
