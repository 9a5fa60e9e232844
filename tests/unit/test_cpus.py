from __future__ import annotations

import os

import pytest

from parapluie import cpus


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty root, in a process that the scheduler lets use 16 CPUs."""
    monkeypatch.setattr(cpus, "_scheduled_cpus", lambda: 16)
    return tmp_path


def write(root, files):
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def test_real_machine_has_at_least_one():
    assert 1 <= cpus.usable_cpus() <= (os.cpu_count() or 1)


def test_without_groups_the_scheduler_decides(root):
    assert cpus.usable_cpus(root) == 16


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the platform has no affinity")
def test_affinity_counts(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7})
    assert cpus.usable_cpus(tmp_path) == 3


def test_python_3_13_knows_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "process_cpu_count", lambda: 5, raising=False)
    assert cpus.usable_cpus(tmp_path) == 5


def test_no_affinity_leaves_the_count_of_cpus(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpus.usable_cpus(tmp_path) == 1


V2 = {"proc/self/cgroup": "0::/user.slice/job\n"}
V1 = {"proc/self/cgroup": "3:cpuset:/\n2:cpu,cpuacct:/docker/a\n1:name=systemd:/\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "200000 100000\n"}, 2),
        ({**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "210000 100000\n"}, 3),
        ({**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "1000 100000\n"}, 1),
        ({**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "max 100000\n"}, 16),
        ({**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "9900000 100000\n"}, 16),
        ({**V2, "sys/fs/cgroup/user.slice/cpu.max": "400000 100000\n"}, 4),
        (
            {
                **V2,
                "sys/fs/cgroup/cpu.max": "700000 100000\n",
                "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/user.slice/job/cpu.max": "500000 100000\n",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/../../other\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": "0::/../other\n",
                "sys/fs/cgroup/cpu.max": "max 100000\n",
                "sys/fs/other/cpu.max": "200000 100000\n",
            },
            16,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us": "50000\n",
            },
            3,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/a/cpu.cfs_period_us": "100000\n",
            },
            16,
        ),
    ],
)
def test_quota_counts_along_the_whole_path(root, files, expected):
    write(root, files)
    assert cpus.usable_cpus(root) == expected


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": ""},
        {"proc/self/cgroup": "garbage\n:\n0:\n", "sys/fs/cgroup/cpu.max": "100000 100000"},
        {**V2, "sys/fs/cgroup/user.slice/job/cpu.max": ""},
        {**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "100000"},
        {**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "1 2 3"},
        {**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "100000 0"},
        {**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "-5 100000"},
        {**V2, "sys/fs/cgroup/user.slice/job/cpu.max/is a folder": ""},
        {**V1, "sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us": "100000"},
        {"proc/self/cgroup": "0::/nul\0byte\n"},
    ],
)
def test_file_that_makes_no_sense_is_no_limit(root, files):
    write(root, files)
    assert cpus.usable_cpus(root) == 16
