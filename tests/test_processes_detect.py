"""Which process of a run this one is, by the variables that schedulers really set."""

import http.server
import threading

import numpy as np
import pytest

from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.processes import detect
from hpjax.processes.detect import Place, place

# As `srun --nodes=2 --ntasks-per-node=2 env` shows them, process 3.
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "node[007-008]",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "node[007-008]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}
# A batch script itself: the job's variables, no step of `srun`.
SLURM_BATCH = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "node[007-008]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
OPEN_MPI_4 = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1,10.108.0.1:34911",
}
OPEN_MPI_5 = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_NAMESPACE": "prterun-head-2817@1",
    "PMIX_RANK": "5",
}
TPU_ON_KUBERNETES = {
    "TPU_WORKER_HOSTNAMES": "tpu-0.svc,tpu-1.svc,tpu-2.svc,tpu-3.svc",
    "TPU_WORKER_ID": "2",
    "TPU_TOPOLOGY": "4x4",
}
MULTISLICE = {
    **TPU_ON_KUBERNETES,
    "MEGASCALE_COORDINATOR_ADDRESS": "slice-0-0.svc:8080",
    "MEGASCALE_NUM_SLICES": "2",
    "MEGASCALE_SLICE_ID": "1",
}
PORT = detect.FIRST_PORT


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, None, id="none"),
        pytest.param(SLURM, Place(f"node007:{PORT + 4711 % 4096}", 4, 3), id="slurm"),
        pytest.param({**SLURM, "SLURM_STEP_ID": "2"}, Place(f"node007:{PORT + 4713 % 4096}", 4, 3), id="slurm step 2"),
        pytest.param({**SLURM, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None, id="srun of one task"),
        pytest.param(SLURM_BATCH, None, id="batch script"),
        pytest.param(OPEN_MPI_4, Place(f"10.96.0.1:{PORT + 1531576320 // 4096 % 4096}", 8, 5), id="open mpi 4"),
        pytest.param(
            {**OPEN_MPI_4, "OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp6://[fe80::b9b:ac5d,2620:10d:c083::2]:43370"},
            Place(f"[fe80::b9b:ac5d]:{PORT + 1314521088 // 4096 % 4096}", 8, 5),
            id="open mpi 4, IPv6",
        ),
        pytest.param(TPU_ON_KUBERNETES, Place("tpu-0.svc:8482", 4, 2), id="tpu"),
        pytest.param(MULTISLICE, Place("slice-0-0.svc:8482", 8, 6), id="tpu slices"),
        pytest.param({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, None, id="one tpu host"),
    ],
)
def test_schedulers(environment, expected):
    assert place(Config(), environment) == expected
    # One process, said outright, asks no scheduler.
    assert place(Config(num_processes=1), environment) is None


def test_open_mpi_on_one_host_needs_no_address():
    here = [
        place(Config(), {**OPEN_MPI_5, "OMPI_COMM_WORLD_LOCAL_SIZE": "8", "OMPI_COMM_WORLD_RANK": str(rank)})
        for rank in range(8)
    ]
    assert [p.id for p in here] == list(range(8))
    assert len({p.address for p in here}) == 1
    assert here[0].host == "127.0.0.1"


def test_slurm_first_host_of_a_list(rng: np.random.Generator):
    for nodes, first in {
        "node001": "node001",
        "node001,host2": "node001",
        "node[001-0015],host2": "node001",
        "node[001,007-015],host2": "node001",
        "rack-3-node[12]": "rack-3-node12",
        "tux[1-2]c[0-3],other": "tux1c0",
    }.items():
        assert detect.first_host(nodes) == first
    # The scheduler's own form of random lists of hosts.
    for _ in range(50):
        numbers = sorted(rng.choice(1000, size=rng.integers(2, 9), replace=False))
        parts = ",".join(f"{n:04d}" if rng.random() < 0.5 else f"{n:04d}-{n:04d}" for n in numbers)
        assert detect.first_host(f"n-a[{parts}],z1") == f"n-a{numbers[0]:04d}"


def test_flags_go_before_the_scheduler():
    config = Config(coordinator_address="head:1234", num_processes=6)
    assert place(config, SLURM) == Place("head:1234", 6, 3)
    assert place(config.replace(process_id=5), {}) == Place("head:1234", 6, 5)
    assert place(Config(coordinator_address="[fe80::1]:99", num_processes=2, process_id=1), {}).host == "fe80::1"


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        ({"num_processes": 2}, {}, "coordinator_address is not set, and no scheduler's variables are set; expected --coord"),
        ({"coordinator_address": "a:1"}, {}, "num_processes is not set, and no scheduler's variables are set"),
        ({"coordinator_address": "a:1", "num_processes": 2}, {}, "process_id is not set"),
        ({}, OPEN_MPI_5, "coordinator_address is not set, and Open MPI does not say it"),
        ({}, {**SLURM, "SLURM_PROCID": "x"}, "environment variable SLURM_PROCID is 'x'; expected a whole number"),
        *(
            ({"coordinator_address": bad, "num_processes": 2, "process_id": 0}, {}, "expected HOST:PORT")
            for bad in ("host", "host:", ":12", "host:x", "host:0", "host:70000", "host..x:1", f"{'a' * 64}:1")
        ),
        (
            {"coordinator_address": "a:1", "num_processes": 2, "process_id": 2},
            {},
            "process_id is 2; expected 0 to 1, for num_processes is 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused(settings, environment, message):
    with pytest.raises(ConfigError) as caught:
        place(Config(**settings), environment)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("endpoints", "first"),
    [("10.0.0.1,10.0.0.2", "10.0.0.1"), ("a:0:10.1.0.1,b:1:10.1.0.2", "10.1.0.1")],
    ids=["addresses", "old form"],
)
def test_cloud_tpu_without_variables_asks_the_metadata_server(monkeypatch, endpoints, first):
    said = {
        "agent-worker-number": "1",
        "worker-network-endpoints": endpoints,
        "tpu-env": "ACCELERATOR_TYPE: 'v5litepod-8'\nMEGASCALE_NUM_SLICES: '3'\nMEGASCALE_SLICE_ID: '2'\n",
    }

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = said.get(self.path.rpartition("/")[2], "").encode()
            right = (
                self.path.startswith("/computeMetadata/v1/instance/attributes/")
                and self.headers["Metadata-Flavor"] == "Google"
            )
            self.send_response(200 if right and text else 404)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with http.server.HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = {"GCE_METADATA_IP": f"127.0.0.1:{server.server_port}"}
        assert place(Config(), there) == Place(f"{first}:8482", 6, 5)
        # Another platform was asked for, or no server is to be asked.
        assert place(Config(), {**there, "JAX_PLATFORMS": "cpu"}) is None
        assert place(Config(), {**there, "TPU_SKIP_MDS_QUERY": "1"}) is None
        del said["agent-worker-number"]
        assert place(Config(), there) is None
        server.shutdown()
    assert place(Config(), there) is None
