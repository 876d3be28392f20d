"""`equishard bench`: what it prints, the work that it counts, and wrong usage. Times depend on the machine: none is checked."""
import concurrent.futures
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()
KEYS = {"case", "size", "ranks", "grid", "seconds", "seconds_min", "seconds_max", "slowest_rank", "gflops", "efficiency",
        "efficiency_combined", "flops", "flops_asked", "bytes", "bytes_moved", "messages", "peak", "triad", "phases"}
# Given, because they would take longer than all the rest.
YARDSTICKS = ["--peak", "2e11", "--triad", "2e10"]
# A model of 9 MB, so that headers hardly count.
MODEL = {"model.embed_tokens.weight": [4096, 256], "l.0.self_attn.q_proj.weight": [512, 256], "norm.weight": [256],
         "l.0.mlp.up_proj.weight": [384, 256], "lm_head.weight": [4096, 256]}
ELEMENTS = 256 * (2 * 4096 + 512 + 1 + 384)


def bench(ranks, *arguments, status=0):
    result = job.run((ranks, job.COMMAND, "bench", *arguments), BLIS_NUM_THREADS="1")
    what = f"bench {' '.join(map(str, arguments))} on {ranks}"
    checks.that(result.returncode == status, f"{what}: status {result.returncode}, not {status}\n{result.stdout}{result.stderr}")
    return result


def cases(ranks, *arguments):
    """The array that a benchmark prints, each case with its keys."""
    arguments = [*arguments, *YARDSTICKS, "--repeat", "2", "--format", "json"]
    result = bench(ranks, *arguments)
    array = json.loads(result.stdout) if result.returncode == 0 else []
    checks.that(len(array) > 0, f"{arguments}: no case")
    for case in array:
        what = f"{' '.join(arguments)}: {case['case']}"
        checks.that(KEYS <= set(case), f"{what}: keys {sorted(KEYS - set(case))} are missing")
        checks.that(case["ranks"] == ranks and 0 <= case["slowest_rank"] < ranks, f"{what}: ranks of {case}")
        checks.that(0 < case["seconds_min"] <= case["seconds"] <= case["seconds_max"], f"{what}: seconds of {case}")
        checks.that(case["peak"] == 2e11 and case["triad"] == 2e10, f"{what}: yardsticks of {case}")
        combined = (case["flops"] / 2e11 + case["bytes"] / 2e10) / case["seconds"]
        checks.at_most(abs(case["efficiency_combined"] / combined - 1), 1e-9, f"{what}: combined efficiency")
    return array


def minimal_work(m, n, steps):
    """Products of commuting symmetric matrices counted once per pair of indices."""
    m, n = min(m, n), max(m, n)
    return min(3 * m * m * n + (4 * steps - 3) * m**3, steps * (3 * m * m * n + m**3))


def polar():
    arguments = ["polar", "--size", "96x160,160x96", "--size", "130x130", "--grid", "2x1,1x2,planned"]
    array = cases(2, *arguments, "--count", "3")
    checks.that([(case["size"], case["grid"]) for case in array]
                == [(size, grid) for size in ("96x160", "160x96", "130x130") for grid in ("2x1", "1x2", "planned")],
                f"every size on every grid: {array}")
    for case in array:
        m, n = map(int, case["size"].split("x"))
        what = f"polar, {case['size']} on {case['grid']}"
        checks.that(case["flops"] == 3 * minimal_work(m, n, 5), f"{what}: minimal work {case['flops']}")
        checks.that(case["bytes"] == 3 * 8 * m * n, f"{what}: bytes {case['bytes']}")
        # Of products of commuting matrices half is computed, on every grid: the minimal work, and nothing else.
        checks.at_most(abs(case["flops_asked"] / case["flops"] - 1), 1e-12, f"{what}: work that is not needed")
        # Ranks of a host share the squares. Across its long side a matrix goes to slabs and back: half of it is elsewhere.
        across = {"2x1": m < n, "1x2": m > n}.get(case["grid"], False)
        checks.that(case["bytes_moved"] == (3 * 4 * m * n if across else 0), f"{what}: {case['bytes_moved']} bytes sent")
        checks.at_most(abs(case["efficiency"] / (case["flops"] / 2e11 / case["seconds"]) - 1), 1e-9, f"{what}: efficiency")


def solvers():
    """Cubic steps need a product less each; the formula is of quintic ones. Two of three ranks."""
    arguments = ["polar", "--size", "128x256", "--steps", "3", "--ranks", "2", *YARDSTICKS, "--repeat", "1"]
    result = bench(3, *arguments, "--format", "json", "--solver", "newton_schulz", "--solver", "you", "--solver", "exact")
    cubic, quintic, exact = json.loads(result.stdout)
    checks.that(cubic["ranks"] == 2 and cubic["solver"] == "newton_schulz", f"--ranks 2 of 3: {cubic}")
    checks.that(quintic["flops"] == minimal_work(128, 256, 3), f"three quintic steps: {quintic}")
    checks.that(cubic["flops"] == quintic["flops"] - 3 * 128**3, f"three cubic steps: {cubic}")
    checks.that(exact["flops"] > 0, f"exact: {exact}")


def rules():
    array = cases(2, "rules", "--size", "192x128", "--count", "2", "--grid", "2x1")
    names = [case["case"] for case in array]
    checks.that({"muon", "polar", "right_spectral", "left_spectral", "row_norm", "hybrid", "adamw"} <= set(names),
                f"all rules: {names}")
    for case in array:
        # read gradient, weight and states, write weight and states: momentum, or adamw's two averages
        per_element = 28 if case["case"] == "adamw" else 20
        checks.that(case["bytes"] == 2 * per_element * 192 * 128, f"{case['case']}: bytes {case['bytes']}")
        by_work = case["flops"] > 0
        checks.that(by_work == ("solver" in case), f"{case['case']}: work {case['flops']}")
        seconds = case["flops"] / 2e11 if by_work else case["bytes"] / 2e10
        checks.at_most(abs(case["efficiency"] / (seconds / case["seconds"]) - 1), 1e-9, f"{case['case']}: efficiency")
    few = cases(1, "rules", "--rule", "row_norm,adamw", "--size", "50x20", "--center")
    checks.that([case["case"] for case in few] == ["row_norm", "adamw"], f"two rules: {few}")


def write_model(directory):
    config, manifest = directory / "config \"1\".yaml", directory / "model.json"
    config.write_text("mode: service\ngroups:\n- {match: {role: [embedding, lm_head]}, rule: row_norm, lr: 0.1}\n"
                      "- {match: {ndim: 2}, rule: muon, lr: 0.1}\n- {match: {}, rule: adamw, lr: 0.1}\n")
    manifest.write_text(json.dumps({"parameters": [{"name": name, "shape": shape} for name, shape in MODEL.items()]}))
    return ["--config", str(config), "--manifest", str(manifest)]


def check_model(what, case):
    work = minimal_work(512, 256, 5) + minimal_work(384, 256, 5)
    checks.that(case["flops"] == work, f"{what}: minimal work {case['flops']}, not {work}")
    checks.that(case["bytes"] == 20 * (ELEMENTS - 256) + 28 * 256, f"{what}: bytes {case['bytes']}")
    checks.that(case["bytes_held"] == 12 * (ELEMENTS - 256) + 16 * 256, f"{what}: {case['bytes_held']} bytes held")
    minimal = case["minimal_seconds"]
    checks.that(set(minimal) == {"row_norm", "muon", "adamw"}, f"{what}: rules {minimal}")
    checks.at_most(abs(sum(minimal.values()) / case["seconds"] / case["efficiency"] - 1), 1e-9, f"{what}: efficiency")
    ratio = case["flops_asked"] / work
    checks.that(1 <= ratio <= 2.2, f"{what}: {ratio} times the minimal work is asked for")


def step(model):
    check_model("step", cases(2, "step", *model)[0])
    transport = cases(2, "step", "--transport", *model)[0]
    check_model("step --transport", transport)
    check_traffic("step --transport", transport, 2, 2)


def check_traffic(what, case, trainers, owners):
    checks.that((case["trainers"], case["owners"]) == (trainers, owners), f"{what}: {case}")
    checks.at_most(abs(case["bytes_ratio"] - 1), 0.05, f"{what}: bytes against a gradient and a weight, less 1")
    for key in "bytes_in", "bytes_out":
        checks.at_most(abs(case[key] / (4 * ELEMENTS) - 1), 0.05, f"{what}: {key} against a gradient, less 1")
    checks.at_most(abs(case["bytes_moved"] / (trainers * (case["bytes_in"] + case["bytes_out"])) - 1), 1e-6, f"{what}: moved")
    checks.that(case["messages"] > 0 and 0 <= case["hidden"] <= 1, f"{what}: {case}")
    checks.that({"trainer push", "trainer step", "trainer pull", "owner update"} <= set(case["phases"]), f"{what}: phases")


def service(model):
    for trainers, owners in (1, 1), (2, 1):
        what = f"{trainers} trainers, {owners} owners"
        case = cases(trainers + owners, "service", *model, "--trainers", str(trainers), "--backward", "0.05",
                     "--warmup", "0")[0]
        check_model(what, case)
        check_traffic(what, case, trainers, owners)
    case = cases(2, "service", *model, "--compute", "--backward", "0.02", "--steps", "3")[0]
    check_traffic("embedded", case, 2, 2)


def yardsticks(directory):
    """Measured where they are not given; the table, and the array in a file beside it."""
    output = directory / "cases.json"
    text = bench(1, "rules", "--rule", "row_norm", "--size", "40x30", "--repeat", "1", "--json", output).stdout
    case = json.loads(output.read_text())[0]
    checks.that(case["peak"] > 1e8 and case["triad"] > 1e8, f"measured: {case}")
    for word in "peak", "triad", "efficiency", "row_norm", "40x30":
        checks.that(word in text, f"the table has {word!r}\n{text}")


def calibrate(directory):
    output = directory / "calibration.json"
    bench(2, "calibrate", "--output", output, "--repeat", "1", "--warmup", "0", *YARDSTICKS)
    file = json.loads(output.read_text())
    checks.that((file["format"], file["version"], file["ranks"]) == ("equishard-calibration", 1, 2), f"calibration: {file}")
    for key in "gemm", "symmetric":
        orders = [order for order, speed in file[key] if speed > 0]
        checks.that(orders == [64, 128, 256, 512, 1024, 2048], f"calibration: {key} {file[key]}")
    for key in "eigen", "triad", "message_latency", "message_bandwidth":
        checks.that(file[key] > 0, f"calibration: {key} {file[key]}")


def checkpoint(directory):
    output = bench(2, "checkpoint", "--size", "24", "--repeat", "2", "--warmup", "0", "--format", "json",
                   "--directory", directory).stdout
    case, = json.loads(output)
    checks.that((case["case"], case["mib"], case["ranks"]) == ("checkpoint", 24, 2), f"checkpoint: {case}")
    for key in "dd", "write", "background", "ratio":
        checks.that(case[key] > 0, f"checkpoint: {key}: {case}")
    checks.that(0 < case["stall"] < case["background"], f"checkpoint: the copy is a part of the whole: {case}")
    checks.that(not list(directory.glob("equishard-bench-*")), "checkpoint: no file is left")
    missing = bench(2, "checkpoint", "--directory", directory / "missing", status=3).stderr
    checks.that(missing.count("missing: cannot make a folder in it") == 1, f"checkpoint: no directory: {missing}")


def usage(model):
    for ranks, arguments, word in (
            (1, ["polar", "--size", "0x5"], "--size"), (1, ["polar", "--size", "5"], "--size"),
            (1, ["polar", "--grid", "planed"], "--grid"), (1, ["polar", "--grid", "1x3"], "1x3"),
            (2, ["polar", "--solver", "jordon"], "newton_schulz, polar_express"), (1, ["polar", "--repeat", "0"], "--repeat"),
            (1, ["polar", "--ranks", "3"], "--ranks 3"), (1, ["polar", "--format", "xml"], "table, json"),
            (1, ["polar", "--solver", "polar_express", "--form", "direct"], "direct"),
            (1, ["rules", "--rule", "sign"], "muon, polar"), (1, ["step", "--config", "none.yaml"], "--manifest"),
            (1, ["service", *model, "--trainers", "3"], "--trainers 3"), (1, ["polars"], "polars"), (1, [], "benchmark")):
        yardsticks = YARDSTICKS if len(arguments) > 1 else []
        result = bench(ranks, *arguments, *yardsticks, status=2)
        checks.that(word in result.stderr and not result.stdout, f"bench {arguments}: what is wrong: {result}")
        messages = [line for line in result.stderr.splitlines() if line.startswith("equishard")]
        checks.that(len(messages) == 1, f"bench {arguments}: one message: {messages}")
    for name in "polar", "rules", "step", "service", "checkpoint", "calibrate":
        text = bench(1, name, "--help").stdout
        checks.that(f"Usage: equishard bench {name}" in text and "Example:" in text, f"bench {name} --help\n{text}")


# Starting MPI takes longer than most of the work: several at a time.
with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(4) as pool:
    scratch = pathlib.Path(folder)
    files = write_model(scratch)
    parts = [pool.submit(yardsticks, scratch), pool.submit(calibrate, scratch), pool.submit(checkpoint, scratch),
             pool.submit(usage, files), pool.submit(polar),
             pool.submit(solvers), pool.submit(rules), pool.submit(step, files), pool.submit(service, files)]
    for part in parts:
        part.result()
sys.exit(checks.failed > 0)
