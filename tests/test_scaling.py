"""Many models on many machines: every cell once, whatever is killed; scripts that do what they say; jobs as the Hub takes them."""

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from huggingface_hub import constants

from arch_hf.cli import build_parser, main
from arch_hf.cli.evaluate import jobs_of
from arch_hf.job import Job
from arch_hf.results.folder import read_results
from arch_hf.results.result import DatasetFacts, ModelFacts, Result, Timing
from arch_hf.scaling.cells import arguments, cells_of
from arch_hf.scaling.cost import Cost, Machine, data_size, estimate, measured_speeds, model_size
from arch_hf.scaling.scripts import LONGEST_ARRAY, Plan, slurm_script

GRID = ["--model_id", "facebook/hubert-base-ls960", "microsoft/wavlm-base", "--datasets", "esc50", "emovo", "--protocol", "arch-v1", "strict"]  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def plan(capsys, *args):
    status = main(["plan", *map(str, args)])
    return status, capsys.readouterr().out


def stand_in(folder, name, text):
    """A program of that name, first on the PATH of what is run with `environment`."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
    path.chmod(0o755)


def environment(folder):
    return os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


# Says what it was asked, once it is done; a cell that is named in `killed` is killed the first time.
ARCH_HF = """
    import os, pathlib, signal, sys, time
    line = " ".join(sys.argv[1:])
    time.sleep(0.02)
    killed = pathlib.Path("killed")
    if killed.exists() and line in killed.read_text().splitlines():
        killed.write_text("\\n".join(other for other in killed.read_text().splitlines() if other != line))
        os.kill(os.getpid(), signal.SIGKILL)
    with open("done", "a") as file:
        file.write(line + "\\n")
"""


def test_a_cell_as_arguments_is_the_cell_again():
    options = {"--config": "de", "--label_column": "word", "--splits": "train=a,test=b"}
    argv = ["evaluate", *GRID, "--model_name", "one", "two", "--layers", "0,6", "--shots", "1", "5", "--limit", "9", "--streaming",
            "--dtype", "bfloat16", "--batch_seconds", "2.5", "--output_dir", "out", *(word for pair in options.items() for word in pair)]  # fmt: skip
    jobs = jobs_of(build_parser().parse_args(argv))
    assert len(jobs) == 4 and len(cells_of(jobs)) == 8
    for cell in cells_of(jobs):
        assert jobs_of(build_parser().parse_args(["evaluate", *arguments(cell)])) == [cell]
    assert jobs_of(build_parser().parse_args(["evaluate", *arguments(*jobs)])) == jobs


def test_every_flag_that_changes_the_question_is_in_the_cell():
    """A new field of Job that `arguments` forgot would be another question on the other machine."""
    changed = {"model_id": "m", "datasets": ("d",), "protocol": "strict", "layers": "all", "limit": 3, "seeds": 2, "shots": (1,), "also": ("pairs",),
               "streaming": True, "overwrite": True, "trust_remote_code": True, "probe": "knn", "dtype": "bfloat16", "batch_seconds": 2.0,
               "dataset_options": {"config": "c"}}  # fmt: skip
    for field in Job.__dataclass_fields__:
        value = changed.get(field, "text")
        job = Job(**{field: value, **({"probe": "linear"} if field != "probe" else {})})
        assert jobs_of(build_parser().parse_args(["evaluate", *arguments(job)])) == [job], field


def test_each_baseline_comes_first_and_once(capsys):
    _, script = plan(capsys, *GRID, "--machine", "a100", "--format", "shell")
    lines = [line for line in script.splitlines() if line.startswith("arch-hf evaluate")]
    assert len(lines) == len(set(lines)) == 12
    assert all(("--model_id mfcc" in line) == (i < 4) for i, line in enumerate(lines))


def test_a_baseline_that_is_asked_for_is_run_first_and_not_twice(capsys):
    args = ["--datasets", "esc50", "emovo", "--machine", "a100", "--format", "shell", "--model_id", "logmel", "mfcc"]

    def cells(*more):
        _, script = plan(capsys, *args, *more)
        return [line for line in script.splitlines() if line.startswith("arch-hf evaluate")]

    lines = cells("--batch_seconds", 20)
    assert len(lines) == 4 and all(("--model_id mfcc" in line) == (i < 2) for i, line in enumerate(lines))
    # Of another question than the baseline's: a cell of its own.
    assert len(cells("--also", "pairs")) == len(cells("--dtype", "bfloat16")) == 6
    assert len(cells("--model_name", "mine", "other")) == 6
    _, alone = plan(capsys, *args[:-2], "mfcc")
    assert alone.count("run <<'CELLS'") == 1 and alone.count("arch-hf evaluate --model_id mfcc") == 2


def test_the_shell_script_runs_every_cell_once_and_then_reports(capsys, tmp_path):
    _, script = plan(capsys, *GRID, "--machine", "a100", "--format", "shell")
    (tmp_path / "plan.sh").write_text(script)
    stand_in(tmp_path, "arch-hf", ARCH_HF)
    ran = subprocess.run(["sh", "plan.sh", "3"], env=environment(tmp_path), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    done = (tmp_path / "done").read_text().splitlines()
    cells = [line.removeprefix("arch-hf ") for line in script.splitlines() if line.startswith("arch-hf evaluate")]
    assert sorted(done[:-2]) == sorted(cells) and all("mfcc" in line for line in done[:4])
    assert done[-2] == "report results --output report" and done[-1].startswith("plan ") and "--missing" in done[-1]
    assert ran.stdout.count("done    arch-hf evaluate") == len(cells)
    logs = {path.name.rpartition("-")[0] for path in tmp_path.glob("results/logs/*.log")}
    models = ("mfcc", "facebook_hubert-base-ls960", "microsoft_wavlm-base")
    assert logs == {f"{model}_{corpus}" for model in models for corpus in ("esc50", "emovo")}
    assert "results/logs/MODEL_CORPUS" in script and "into report/leaderboard.html" in script


def test_a_cell_that_is_killed_is_told_and_stops_no_other(capsys, tmp_path):
    _, script = plan(capsys, *GRID, "--machine", "a100", "--format", "shell")
    (tmp_path / "plan.sh").write_text(script)
    stand_in(tmp_path, "arch-hf", ARCH_HF)
    cells = [line.removeprefix("arch-hf ") for line in script.splitlines() if line.startswith("arch-hf evaluate")]
    (tmp_path / "killed").write_text("\n".join(random.Random(0).sample(cells, 3)))
    ran = subprocess.run(["sh", "plan.sh", "2"], env=environment(tmp_path), capture_output=True, text=True, timeout=60)
    assert ran.stdout.count("FAILED") == 3 and ran.stdout.count("done    ") == len(cells) - 3
    subprocess.run(["sh", "plan.sh", "2"], env=environment(tmp_path), capture_output=True, timeout=60)
    assert set(cells) <= set((tmp_path / "done").read_text().splitlines())


def test_the_slurm_script_submits_arrays_and_a_report_that_waits(capsys, tmp_path):
    """Read by a stand-in for sbatch that runs each task at once, and knows only jobs that were submitted."""
    options = ["--sbatch", "--partition=gpu --gres=gpu:1", "--at_once", 2]
    _, script = plan(capsys, *GRID, "--machine", "t4", "--format", "slurm", *options)
    (tmp_path / "plan.slurm").write_text(script)
    stand_in(tmp_path, "arch-hf", ARCH_HF)
    stand_in(tmp_path, "sbatch", """
        import json, os, pathlib, re, shutil, subprocess, sys
        options = [word for word in sys.argv[1:] if word.startswith("--")]
        script, *words = [word for word in sys.argv[1:] if not word.startswith("--")]
        log = pathlib.Path("sbatch.log")
        before = log.read_text().splitlines() if log.exists() else []
        number = 100 + len(before)
        named = dict(option[2:].split("=", 1) for option in options if "=" in option)
        known = {str(100 + i) for i in range(len(before))}
        condition, *waits = named.get("dependency", "afterany").split(":")
        assert condition == "afterany" and set(waits) <= known, waits  # a task that fails keeps no other from its work
        log.write_text("\\n".join([*before, json.dumps([named, words])]) + "\\n")
        copy = shutil.copy(script, f"spool-{number}")
        low, high = re.match(r"(\\d+)-(\\d+)", named.get("array", "0-0")).groups()
        for task in range(int(low), int(high) + 1):
            extra = {"SLURM_JOB_ID": str(number)} | ({"SLURM_ARRAY_TASK_ID": str(task)} if "array" in named else {})
            subprocess.run(["bash", copy, *words], env=os.environ | extra, check=True)
        print(f"{number};cluster")
    """)  # fmt: skip
    ran = subprocess.run(["bash", "plan.slurm"], env=environment(tmp_path), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "submitted 8 cells and 4 of the baseline; the report comes last" in ran.stdout
    done = (tmp_path / "done").read_text().splitlines()
    cells = [line.removeprefix("arch-hf ") for line in script.splitlines() if line.startswith("arch-hf evaluate")]
    assert sorted(done[:-2]) == sorted(cells) and len(cells) == 12 and done[-2].startswith("report results")
    calls = (tmp_path / "sbatch.log").read_text().splitlines()
    assert all('"partition": "gpu"' in call and re.search(r'"time": "\d\d:\d\d:00"', call) for call in calls)
    assert all(re.search(r'"array": "0-\d+%2"', call) for call in calls[:-1]) and '"array"' not in calls[-1]


def test_a_long_array_is_cut_and_each_time_limit_has_its_own():
    cells = [(Job("m", (f"d{i}",)), Cost(60.0, False)) for i in range(LONGEST_ARRAY + 1)]
    cells.append((Job("m", ("long",)), Cost(3 * 3600.0, False)))
    script = slurm_script(Plan([], cells, ["arch-hf", "plan"], "a machine"))
    assert re.findall(r"--time=(\S+) --array=(\S+)", script) == [
        ("08:00:00", "0-0"),
        ("00:30:00", "0-999"),
        ("00:30:00", "0-0"),
    ]


def test_estimates_grow_with_the_model_the_data_and_what_is_asked():
    machine = Machine("m", "cpu", 100.0, 2)

    def seconds(model="facebook/hubert-base-ls960", dataset="esc50", on=machine, speed=None, **options):
        cell = Job(model, (dataset,), **options)
        return estimate(cell, model_size(cell), data_size(cell), on, speed).seconds

    plain = seconds()
    assert seconds("facebook/hubert-large-ll60k") > 2 * plain and seconds(dataset="us8k") > 2 * plain
    assert seconds(layers="all") > plain and seconds(limit=10) < plain / 10
    assert seconds(on=Machine("m", "cuda", 1000.0, 8)) < plain and seconds(speed=1000.0) < plain
    decoding = seconds(on=Machine("m", "cuda", 1e9, 1))  # beside an encoder that takes no time
    assert decoding > seconds(on=Machine("m", "cuda", 1e9, 1000)) + 5
    # Ten seconds of audio for each clip of 7.6, since arch-v1 pads: 51,197 clips at 14.33 GFLOP a second of audio.
    assert seconds(dataset="fsd50k", on=Machine("m", "cuda", 14.33e9 / 1e9 * 1000, 1000)) > 51_197 * 10 / 1000


def test_speeds_that_were_measured_count(capsys, tmp_path):
    assert (
        main(["evaluate", "--datasets", "synthetic_events", "--limit", "6", "--seeds", "1", "--cache_dir", "cache"])
        == 0
    )
    capsys.readouterr()
    _, table = plan(capsys, "--datasets", "synthetic_events", "--device", "cpu")
    rows = [line for line in table.splitlines() if "synthetic_events" in line]
    assert len(rows) == 2 and all("a result" in row for row in rows)


def test_of_several_speeds_the_fastest_of_such_a_device_counts():
    def seen(speed, device="cuda", dtype="float32"):
        facts = {"complete": True, "layer": -1, "protocol": {}, "metrics": {}, "timing": Timing(audio_s_per_s=speed)}
        data = DatasetFacts(id="d", task="single_label", n_clips=1)
        return Result(model=ModelFacts(id="m"), dataset=data, environment={"device": device, "dtype": dtype}, **facts)

    results = [seen(5.0), seen(7.0), seen(6.0), seen(99.0, "cpu"), seen(9.0, dtype="bfloat16")]
    assert measured_speeds(results, "cuda") == {("m", "float32"): 7.0, ("m", "bfloat16"): 9.0}


def test_the_report_goes_where_the_plan_says_and_each_cell_to_its_device(capsys):
    for kind in ("shell", "slurm"):
        _, script = plan(capsys, *GRID, "--machine", "a100", "--format", kind, "--report", "mine", "--device", "cuda:1")
        cells = [line for line in script.splitlines() if line.startswith("arch-hf evaluate")]
        assert len(cells) == 12 and all(line.endswith(" --device cuda:1") for line in cells)
        assert "arch-hf report results --output mine" in script and "into mine/leaderboard.html" in script


@pytest.mark.parametrize("kind", ["shell", "slurm"])
def test_a_report_with_holes_is_a_failure_of_the_script_that_still_names_what_is_missing(capsys, tmp_path, kind):
    _, script = plan(capsys, *GRID, "--machine", "a100", "--format", kind)
    (tmp_path / "plan.sh").write_text(script)
    stand_in(tmp_path, "arch-hf", ARCH_HF + "    sys.exit(sys.argv[1] == 'report')\n")
    command = ["sh", "plan.sh", "2"] if kind == "shell" else ["bash", "plan.sh", "report"]
    ran = subprocess.run(command, env=environment(tmp_path), capture_output=True, timeout=60)
    assert ran.returncode == 1 and "--missing" in (tmp_path / "done").read_text().splitlines()[-1]


def test_what_is_missing_is_named_and_planned_alone(capsys):
    args = ["--datasets", "synthetic_events", "synthetic_music", "--limit", 6, "--seeds", 1, "--cache_dir", "cache"]
    assert main(["evaluate", "--datasets", "synthetic_events", *map(str, args[3:])]) == 0
    capsys.readouterr()
    assert main(["plan", *map(str, args), "--missing"]) == 1
    out, err = capsys.readouterr()
    assert out == "1 of 2 cells have a result\n" and err == "missing: logmel on synthetic_music, arch-v1\n"
    status, script = plan(capsys, *args, "--missing", "--format", "shell", "--machine", "l4")
    assert status == 1 and "--datasets synthetic_music" in script and "logmel --datasets synthetic_events" not in script


def test_a_plan_that_is_killed_at_random_ends_equal_to_a_plain_run(capsys, tmp_path):
    """Real cells on one store, killed while they work; then the script runs to its end."""
    args = ["--model_id", "logmel", "mfcc", "--datasets", "synthetic_speech", "--limit", 8, "--seeds", 1]
    folders = ["--cache_dir", "cache", "--output_dir", "planned"]
    _, script = plan(capsys, *args, *folders, "--machine", "l4", "--format", "shell")
    (tmp_path / "plan.sh").write_text(script)
    real = "from arch_hf.cli import main\nsys.exit(main())"
    stand_in(tmp_path, "arch-hf", f'import sys\nif sys.argv[1] == "report":\n    sys.exit(0)\n{real}\n')
    where = environment(tmp_path) | {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.Popen(["sh", "plan.sh", "2"], env=where, stdout=subprocess.PIPE, start_new_session=True)
    time.sleep(random.Random(time.time()).uniform(1, 9))
    os.killpg(ran.pid, signal.SIGKILL)
    ran.communicate()
    ran = subprocess.run(["sh", "plan.sh", "2"], env=where, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0 and "2 of 2 cells have a result" in ran.stdout, ran.stdout + ran.stderr
    assert main(["evaluate", *map(str, args), "--cache_dir", "other", "--output_dir", "plain"]) == 0
    planned, plain = (
        {filed.result.model.id: filed.result for filed in read_results(name)[0]} for name in ("planned", "plain")
    )
    assert planned.keys() == plain.keys() == {"logmel", "mfcc"}
    for name, result in plain.items():
        assert planned[name].identity == result.identity and planned[name].metrics == result.metrics
        assert planned[name].baselines == result.baselines


# Hugging Face Jobs ------------------------------------------------------------------------------------------------------


RUN = ["jobs", "run", "--flavor", "a10g-small", "--bucket", "me/arch"]


def test_a_job_is_sent_as_the_hub_takes_it(hub, capsys):
    assert main([*RUN, "--model_id", "facebook/hubert-base-ls960", "--datasets", "esc50", "emovo", "--plan", "p1"]) == 0
    out, _ = capsys.readouterr()
    assert (
        "on a10g-small, $0." in out and "$1.00 an hour, stopped after 30 min: $0.50 at most" in out and "sent: " in out
    )
    (job,) = hub.rented.jobs
    assert job["command"][:5] == ["uv", "run", "--with", job["command"][3], "arch-hf"] and job["command"][3].startswith(
        "arch-hf=="
    )
    (cell,) = jobs_of(build_parser().parse_args(job["command"][5:]))
    expected = Job(
        "facebook/hubert-base-ls960", ("esc50", "emovo"), output_dir="/arch/results", cache_dir="/arch/cache"
    )
    assert cell == expected
    assert job["flavor"] == "a10g-small" and job["timeoutSeconds"] == 1800 and job["secrets"] == {"HF_TOKEN": hub.token}
    assert job["volumes"] == [{"type": "bucket", "source": "me/arch", "mountPath": "/arch"}] and hub.rented.buckets == [
        "me/arch"
    ]
    assert (
        not hub.rented.public
        and job["labels"]["arch-hf-plan"] == "p1"
        and hub.token not in out
        and hub.token not in " ".join(job["command"])
    )


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--flavor", "abacus"], r"unknown --flavor abacus: choose one of cpu-basic, a10g-small"),
        (["--flavor", "l4x4"], r"--flavor l4x4 has 4 accelerators, and a cell uses one"),
        (["--protocol", "arch-v9"], r"unknown protocol 'arch-v9'"),
    ],
)
def test_what_no_job_can_do_is_told_before_it_costs(hub, capsys, args, says):
    try:
        status = main([*RUN, *args])
    except SystemExit as stop:
        status = stop.code
    assert status == 1 and re.search(says, capsys.readouterr().err) and not hub.rented.jobs


def test_half_precision_is_said_to_cost_less(hub, capsys):
    def said(*more):
        assert main([*RUN, "--model_id", "facebook/hubert-base-ls960", "--datasets", "fsd50k", "--dry_run", *more]) == 0
        return float(re.search(r"\$([\d.]+): an estimate", capsys.readouterr().out)[1])

    assert said("--dtype", "bfloat16") < 0.7 * said()


def test_a_dry_run_sends_nothing(hub, capsys):
    command = [*RUN, "--model_id", "logmel", "--minutes", "60"]
    assert main([*command, "--dry_run"]) == 0
    assert "$1.00 at most" in capsys.readouterr().out and not hub.rented.jobs and not hub.rented.buckets
    assert main(command) == 0 and hub.rented.jobs[0]["timeoutSeconds"] == 3600


def test_the_script_of_jobs_sends_each_cell_and_waits(hub, capsys, tmp_path, naps):
    status, script = plan(
        capsys, *GRID, "--format", "jobs", "--flavor", "a10g-small", "--bucket", "me/arch", "--namespace", "lab"
    )
    assert status == 0 and re.search(r"At \$1.00 an hour about \$\d+\.\d\d; by the time limits \$4.00 at most", script)
    stand_in(tmp_path, "arch-hf", ARCH_HF)
    stand_in(tmp_path, "hf", ARCH_HF)
    (tmp_path / "plan.sh").write_text(script)
    assert subprocess.run(["sh", "plan.sh"], env=environment(tmp_path), timeout=60).returncode == 0
    lines = (tmp_path / "done").read_text().splitlines()
    sends, rest = lines[:8], lines[8:]
    for line in sends:
        assert main(line.split()) == 0
    assert len(hub.rented.jobs) == 8 == len({tuple(job["command"]) for job in hub.rented.jobs})
    assert {job["owner"] for job in hub.rented.jobs} == {"lab"}
    assert (
        rest[1] == "buckets sync hf://buckets/me/arch/results results" and rest[2] == "report results --output report"
    )

    hub.before("GET", "/api/jobs/lab", lambda: [job.update(stage="COMPLETED") for job in hub.rented.jobs[:6]])
    hub.hooks.append(("GET", "/api/jobs/lab", lambda: [job.update(stage="COMPLETED") for job in hub.rented.jobs[6:]]))
    capsys.readouterr()
    assert main(rest[0].split()) == 0
    assert capsys.readouterr().out == "8 of 8 jobs are done\n"
    hub.rented.jobs[3].update(stage="ERROR", message="out of memory")
    assert main(rest[0].split()) == 1
    out, err = capsys.readouterr()
    assert out == "7 of 8 jobs are done\n" and "ended as ERROR: out of memory" in err
