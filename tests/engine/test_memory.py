"""Memory that the process keeps: a second use of it costs no page faults."""

import resource
import subprocess
import sys

SCRIPT = """
import resource, torch
from worker.memory import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
torch.set_num_threads(1)
def work():
    for _ in range(4):
        held = [torch.empty(count).fill_(1.0) for count in (2_000_000,) * 5 + (12_000_000,)]
        del held
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 4 * 22_000_000 * 4 // resource.getpagesize()


def faults(*, keep: bool) -> int:
    script = SCRIPT.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return int(done.stdout)


def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    assert faults(keep=False) > PAGES / 3
    assert faults(keep=True) < PAGES / 100
