"""Everything that a program can hold is there after a move, and after the way back."""
import pytest

from moving import Client, log_of, migrate, moving_bed, run, settled, snapshot, status

WORKLOADS = ("count", "threads", "events", "deleted", "locks", "mapped", "sysv", "sockets", "fifo",
             "changes", "users", "watches", "odd netlink", "odd pagemap", "odd mem", "odd namespace",
             "odd pidfd", "odd in-flight")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_it_is_there_after_the_move_and_back(bed, workload):
    one, two = bed["node1"], bed["node2"]
    before = snapshot(bed)
    program, *arguments = workload.split()
    workload = program
    address = run(one, workload, f"/workloads/{program}", *arguments)
    client = None
    try:
        client = Client(bed["node3"], address)
        client.ask()
        for source, target in ((one, two), (two, one)):
            migrate(source, workload, target)
            client.ask()
            client.ask()
            assert status(source, workload) is None and status(target, workload) == "running"
        assert log_of(one, workload) == "ready\n"
    finally:
        if client:
            client.close()
        for node in (one, two):
            node.godwit("rm", "-f", workload, check=False)
    settled(bed, before)
