"""Which process of a run this one is: from flags, else from what Slurm, Open MPI or Cloud TPU say to what they start."""

import importlib.util
import re
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from hpjax.config import Config
from hpjax.errors import ConfigError

PORTS, FIRST_PORT = 4096, 61440
"""Ports that a job's number chooses from, where the scheduler names none."""
TPU_PORT = 8482


class Place(NamedTuple):
    """A process among those of a run.

    Attributes:
      address: HOST:PORT of process 0, where they meet.
      number: how many there are.
      id: which one this is, from 0.
    """

    address: str
    number: int
    id: int

    @property
    def host(self) -> str:
        """The host in `address`, an IPv6 address without its brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port in `address`."""
        return int(self.address.rpartition(":")[2])


class Found(NamedTuple):
    """What a scheduler says; None where it says nothing."""

    scheduler: str
    address: str | None
    number: int | None
    id: int | None


def place(config: Config, environment: Mapping[str, str]) -> Place | None:
    """Returns this process's place, or None where it is alone.

    Args:
      config: its `coordinator_address`, `num_processes` and `process_id` go before what the environment says.
      environment: variables by name.

    Raises:
      ConfigError: something is missing, or contradicts the rest.
    """
    given = {name: getattr(config, name) for name in ("coordinator_address", "num_processes", "process_id")}
    if given == {"coordinator_address": None, "num_processes": 1, "process_id": None}:
        return None
    found = detect(environment)
    asked = any(value is not None for value in given.values())
    if not asked and (found.number or 1) == 1:
        return None
    for name, value in zip(given, (found.address, found.number, found.id), strict=True):
        if given[name] is None:
            given[name] = value
        if given[name] is None:
            source = f"{found.scheduler} does not say it" if found.scheduler else "no scheduler's variables are set"
            raise ConfigError(f"{name} is not set, and {source}; expected --{name}={_EXAMPLES[name]}")
    address, number, id_ = given.values()
    host, colon, port = str(address).rpartition(":")
    if not (colon and _is_host(host) and port.isdecimal() and 0 < int(port) < 2**16):
        raise ConfigError(f"coordinator_address is '{address}'; expected HOST:PORT, a port from 1 to 65535")
    if id_ >= number:
        raise ConfigError(f"process_id is {id_}; expected 0 to {number - 1}, for num_processes is {number}")
    return Place(str(address), number, id_)


def detect(environment: Mapping[str, str]) -> Found:
    """Returns what the scheduler that started this process says; its name is empty where there is none.

    Raises:
      ConfigError: a variable is no number.
    """
    for scheduler in (_slurm, _open_mpi, _tpu):
        found = scheduler(environment)
        if found is not None:
            return found
    return Found("", None, None, None)


def _is_host(name: str) -> bool:
    """Returns whether a name could be looked up at all: none of its parts between dots is empty or too long."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


_EXAMPLES = {"coordinator_address": "HOST:PORT", "num_processes": "NUMBER", "process_id": "NUMBER"}


def _slurm(environment: Mapping[str, str]) -> Found | None:
    """Of a job step (`srun`) alone: a batch script and a shell have the job's variables too, but are one process."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")
    if any(name not in environment for name in names):
        return None
    job, number, id_ = (_number(environment, name) for name in (names[0], *names[2:]))
    # Steps of one job that run at the same time meet at different ports.
    step = environment.get("SLURM_STEP_ID", "0")
    port = FIRST_PORT + (job + (int(step) if step.isdecimal() else 0)) % PORTS
    return Found("Slurm", f"{first_host(environment[names[1]])}:{port}", number, id_)


def first_host(nodes: str) -> str:
    """Returns the first of Slurm's list of hosts: `node001` of `node[001-015],other`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first[0] if first else nodes)


def _open_mpi(environment: Mapping[str, str]) -> Found | None:
    names = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    if any(name not in environment for name in names):
        return None
    number, id_ = (_number(environment, name) for name in names)
    # Open MPI 4 says where mpirun listens: `1531576320.0;tcp://10.96.0.1,10.148.0.1:34911`, or tcp6://[fe80::1,...]:34911.
    uri = environment.get("OMPI_MCA_orte_hnp_uri", "")
    host = re.search(r"tcp://([^,:]+)|tcp6://(\[[^,\]]+)", uri)
    job = uri.partition(".")[0] or environment.get("PMIX_NAMESPACE", "")
    port = FIRST_PORT + (int(job) // 2**12 if job.isdecimal() else zlib.crc32(job.encode())) % PORTS
    if environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") == environment[names[0]]:
        return Found("Open MPI", f"127.0.0.1:{port}", number, id_)
    if host is None:
        return Found("Open MPI", None, number, id_)
    return Found("Open MPI", f"{host[1] or host[2] + ']'}:{port}", number, id_)


def _tpu(environment: Mapping[str, str]) -> Found | None:
    """Of a TPU's workers: variables where Kubernetes sets them, else what the machine's metadata server says."""
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if workers is not None and "TPU_WORKER_ID" in environment:
        hosts, id_ = workers.split(","), _number(environment, "TPU_WORKER_ID")
        said: Mapping[str, str] = environment
    elif _is_tpu_machine(environment):
        endpoints, worker = _metadata(environment, "worker-network-endpoints"), _metadata(environment, "agent-worker-number")
        if endpoints is None or worker is None or not worker.isdecimal():
            return None
        # Names, or in the old form name:number:address.
        hosts, id_ = [part.split(":")[-1] for part in endpoints.split(",")], int(worker)
        lines = (line.partition(":") for line in (_metadata(environment, "tpu-env") or "").splitlines())
        said = {**{name.strip(): value.strip().strip("'") for name, _, value in lines}, **environment}
    else:
        return None
    # Several slices are one run: the first worker of the first slice is process 0.
    first = said.get("MEGASCALE_COORDINATOR_ADDRESS") or hosts[0]
    slices, slice_id = int(said.get("MEGASCALE_NUM_SLICES") or 1), int(said.get("MEGASCALE_SLICE_ID") or 0)
    return Found("Cloud TPU", f"{first.split(':')[0]}:{TPU_PORT}", len(hosts) * slices, id_ + slice_id * len(hosts))


def _is_tpu_machine(environment: Mapping[str, str]) -> bool:
    asked_for = environment.get("JAX_PLATFORMS", "tpu")
    return "tpu" in asked_for and "TPU_SKIP_MDS_QUERY" not in environment and importlib.util.find_spec("libtpu") is not None


def _metadata(environment: Mapping[str, str], key: str) -> str | None:
    server = environment.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{server}/computeMetadata/v1/instance/attributes/{key}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Metadata-Flavor": "Google"}), timeout=5) as answer:
            return answer.read().decode()
    except (OSError, urllib.error.URLError):
        return None


def _number(environment: Mapping[str, str], name: str) -> int:
    if not environment[name].isdecimal():
        raise ConfigError(f"environment variable {name} is '{environment[name]}'; expected a whole number")
    return int(environment[name])
