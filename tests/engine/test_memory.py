"""Memory that a training keeps: a second use of it costs no page faults, and it ends with it."""

import resource
import subprocess
import sys

SCRIPT = """
import contextlib, resource, psutil, torch
from worker.engine.cpu.allocator import freed_memory_kept
torch.set_num_threads(1)
def work():
    for _ in range(4):
        held = [torch.empty(count).fill_(1.0) for count in (2_000_000,) * 5 + (12_000_000,)]
        del held
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
work()
print(faults())
with freed_memory_kept() as kept:
    assert kept
    work()
    print(faults())
    held = psutil.Process().memory_info().rss
print(faults())
print(held - psutil.Process().memory_info().rss)
"""
PAGE = resource.getpagesize()
LARGE = 4 * 12_000_000 * 4 // PAGE  # pages of blocks that glibc always fetches and hands back


def test_freed_memory_is_used_again_without_asking_the_system_and_handed_back_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    before, meanwhile, after, released = map(int, done.stdout.split())
    assert before > LARGE / 2
    assert meanwhile < LARGE / 100
    assert after > LARGE / 2
    assert released > 12_000_000 * 4 / 2
