"""Hugging Face Jobs: cells on the Hub's own machines, through huggingface_hub's own API.

A job installs this package with uv, mounts a bucket, and runs `arch-hf evaluate` with the store of embeddings and the results in it: the next job goes
on from there, and so does one that was stopped. What a job costs at most is its time limit at the flavor's price.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from huggingface_hub import HfApi, JobInfo, JobStage, Volume, get_token

import arch_hf
from arch_hf.errors import UserError
from arch_hf.hub import attempt
from arch_hf.progress import progress_bar
from arch_hf.scaling.cost import Machine, accelerator

IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"  # Debian with uv, which installs the rest; a GPU's driver comes with the machine
MOUNT = "/arch"  # where a job finds the bucket
FOLDERS = {"--output_dir": f"{MOUNT}/results", "--cache_dir": f"{MOUNT}/cache"}
LABEL = "arch-hf-plan"  # of all jobs of one plan
PACKAGE = f"arch-hf=={arch_hf.__version__}"
CORE_GFLOPS = 40.0  # of a virtual core, with encoders
POLL_S = 15.0
OVER = (JobStage.COMPLETED, JobStage.CANCELED, JobStage.ERROR, JobStage.DELETED)


@dataclass(frozen=True)
class Order:
    """What a job needs beside its command: the flavor of the machine, the bucket, minutes after which it is stopped, what to install (a
    requirement of pip), who pays (None: you), and the plan that it belongs to."""

    flavor: str
    bucket: str
    minutes: int
    package: str = PACKAGE
    namespace: str | None = None
    plan: str = "single"


def flavor_machine(name: str, dtype: str | None = None) -> Machine:
    """A flavor of the Hub's machines, with its price today.

    Raises:
        UserError: there is no such flavor, it has several accelerators or one that nobody knows, or the Hub does not answer.
    """
    hardware = attempt(HfApi().list_jobs_hardware, "asking the Hub for its hardware", attempts=2)
    flavors = {flavor.name: flavor for flavor in hardware}
    if name not in flavors:
        raise UserError(f"unknown --flavor {name}: choose one of {', '.join(flavors)}")
    flavor = flavors[name]
    cores, price = int(flavor.cpu.split()[0]), _price_per_hour(flavor.unit_cost_usd, flavor.unit_label)
    if flavor.accelerator is None:
        return Machine(name, "cpu", cores * CORE_GFLOPS, cores, price)
    if str(flavor.accelerator.quantity) != "1":
        raise UserError(
            f"--flavor {name} has {flavor.accelerator.quantity} accelerators, and a cell uses one: take a smaller one"
        )
    machine = accelerator(flavor.accelerator.model, dtype)
    return Machine(name, machine.kind, machine.gflops, cores, price)


def _price_per_hour(price: float, unit: str) -> float:
    """
    Examples:
        >>> _price_per_hour(0.01, "minute")
        0.6
    """
    return price * {"second": 3600, "minute": 60, "hour": 1}[unit]


def command_of(arguments: Sequence[str]) -> list[str]:
    """The arguments of `arch-hf evaluate` as the job gives them: results and store go into the bucket.

    Examples:
        >>> command_of(["--model_id", "me/model", "--output_dir", "here"])
        ['evaluate', '--model_id', 'me/model', '--output_dir', '/arch/results', '--cache_dir', '/arch/cache']
    """
    kept, words = [], list(arguments)
    while words:
        word = words.pop(0)
        if word in FOLDERS:
            words.pop(0)
        else:
            kept.append(word)
    return ["evaluate", *kept, *(word for pair in FOLDERS.items() for word in pair)]


def submit(arguments: Sequence[str], order: Order) -> JobInfo:
    """Send a job; the bucket is made where there is none.

    Raises:
        UserError: nobody is logged in, or the Hub refuses.
    """
    api, token = HfApi(), get_token()
    if token is None:
        raise UserError("Jobs need to know who you are: run `hf auth login` or set HF_TOKEN")

    def once() -> JobInfo:
        api.create_bucket(order.bucket, private=True, exist_ok=True)
        return api.run_job(
            image=IMAGE,
            command=["uv", "run", "--with", order.package, "arch-hf", *command_of(arguments)],
            flavor=order.flavor,
            timeout=f"{order.minutes}m",
            secrets={"HF_TOKEN": token},
            env={"HF_HUB_DISABLE_TELEMETRY": "1"},
            volumes=[Volume(type="bucket", source=order.bucket, mount_path=MOUNT)],
            labels={LABEL: order.plan},
            namespace=order.namespace,
        )

    return attempt(once, f"sending a job to {order.flavor}", attempts=1)  # not twice: it might run twice


def wait(plan: str, namespace: str | None = None) -> list[JobInfo]:
    """Until all jobs of a plan are over; returns them.

    Raises:
        UserError: there is none, or the Hub does not answer.
    """
    api = HfApi()
    bar = None
    while True:
        jobs = attempt(
            lambda: list(api.list_jobs(labels={LABEL: plan}, namespace=namespace)),
            f"looking for the jobs of plan {plan}",
        )
        if not jobs:
            raise UserError(f"no job of plan {plan}: hf jobs ps -a lists yours")
        over = [job for job in jobs if job.status.stage in OVER]
        bar = bar or progress_bar("jobs that are over", len(jobs), True, unit="job")
        bar.update(len(over) - bar.n)
        if len(over) == len(jobs):
            bar.close()
            return jobs
        time.sleep(POLL_S)
