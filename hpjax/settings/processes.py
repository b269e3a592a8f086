"""Settings of a run or a study on many processes: who they are and where they meet."""

import dataclasses

from hpjax.settings.fields import AT_LEAST_0, AT_LEAST_1, setting


@dataclasses.dataclass(frozen=True)
class ProcessSettings:
    """Settings of a run on many processes; what is None is read from Slurm, Open MPI or Cloud TPU, where they started it."""

    coordinator_address: str | None = setting(
        None,
        "many processes: HOST:PORT of process 0, at which they meet (default: from Slurm, Open MPI or Cloud TPU)",
        main=True,
    )
    num_processes: int | None = setting(
        None,
        "how many processes share this run or study; 1 asks no scheduler (default: as many as one started, else 1)",
        AT_LEAST_1,
        main=True,
    )
    process_id: int | None = setting(
        None, "which of them this one is, from 0 (default: the scheduler's)", AT_LEAST_0, main=True
    )
    join_timeout: int = setting(50, "seconds after its start that a process waits for the others", AT_LEAST_1)
