"""How the program of a trainer ends: exit status, no rank left waiting, messages once, checkpoints or not."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

TRAINER = pathlib.Path(__file__).resolve().parent / "trainer.py"
checks = job.Checks()

CASES = {  # exit status, a text that standard error has once, a text that it has not
    "end": (0, "", "Traceback"),
    "exit0": (0, "", "Traceback"),
    "workers": (0, "", "Traceback"),
    "nonfinite": (1, "equishard: ", "Traceback"),
    "exception": (1, "LookupError: something went wrong", "equishard: "),
    "hanging_exception": (1, "LookupError: something went wrong", "equishard: "),
    "exit": (3, "", "Traceback"),
    "system_exit": (4, "", "Traceback"),
    "other_mpi": (0, "", "Traceback"),
    "other_mpi_exit": (2, "collective calls must agree", "Traceback"),  # nobody knows the status when MPI ends
    "imported_exit": (3, "", "Traceback"),
    "text_exit": (1, "what went wrong", "Traceback"),
    "exit256": (1, "", "Traceback"),
    "interrupt": (130, "equishard: interrupted", "Traceback"),
    "twice": (2, "equishard: ", "Traceback"),
    "second_backward": (2, "no_sync", "Traceback"),
    "scheduler_first": (2, "step the scheduler after", "Traceback"),
    "zeroed": (2, "call zero_grad after step", "Traceback"),
    "zeroed_in_place": (2, "call zero_grad after step", "Traceback"),
    "clipped": (2, "optimizer.clip_grad_norm_(max_norm)", "Traceback"),
    "late_clip": (2, "clips_gradients=True", "Traceback"),
    "unannounced_scale": (2, "grad_scaler=scaler", "Traceback"),
}

MISUSE = {"late_clip", "second_backward", "scheduler_first", "zeroed", "zeroed_in_place", "clipped", "unannounced_scale"}

LONE = {  # calls of all trainers that one does not make, in embedded mode: a text that standard error has
    "lone_mean": "trainers.mean: timed out after 2 s waiting for the other trainers",
    "lone_before": "trainers.minimum: timed out after 3 s waiting for the other trainers",
    "lone_optimizer": "timed out after 2 s",
    "lone_mixed": "timed out after 2 s",
    "lone_end": "timed out after 3 s waiting for the other ranks",
}

with tempfile.TemporaryDirectory() as name:
    config = pathlib.Path(name) / "config.yaml"
    config.write_text(f"mode: service\ncheckpoint: {{directory: {name}/checkpoints}}\n"
                      "groups:\n  - match: {}\n    rule: adamw\n    lr: 0.01\n")
    for case, (status, once, never) in CASES.items():
        result = job.run((2, job.PYTHON, TRAINER, case, "--config", config), job.serve(1), timeout=40)
        checks.that(result.returncode == status, f"{case}: status {result.returncode}, not {status}\n{result.stderr}")
        if case not in MISUSE:  # the rank that ends the job has run what the program registered with atexit
            checks.that("atexit ran" in result.stderr, f"{case}: no atexit function ran\n{result.stderr}")
        if once:
            checks.that(result.stderr.count(once) == 1, f"{case}: {once!r} is there {result.stderr.count(once)} times\n"
                        f"{result.stderr}")
        checks.that(never not in result.stderr, f"{case}: {never!r} is there\n{result.stderr}")
    config.write_text("mode: embedded\ndeadline: 2\ngroups:\n  - match: {}\n    rule: adamw\n    lr: 0.01\n")
    for case, text in LONE.items():
        result = job.run((2, job.PYTHON, TRAINER, case, "--config", config), timeout=30, EQUISHARD_DEADLINE="3")
        checks.that(result.returncode == 5, f"{case}: status {result.returncode}, not 5\n{result.stderr}")
        checks.that(text in result.stderr, f"{case}: {text!r} is not there\n{result.stderr}")
        checks.that("Traceback" not in result.stderr, f"{case}: a traceback\n{result.stderr}")

sys.exit(checks.failed > 0)
