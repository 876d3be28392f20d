"""`equishard plan` on tied parameters, on fused attention, and on every variant of the configurations."""
import json
import math
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def plan(config, manifest, owners, *arguments, status=0):
    result = job.finish([job.COMMAND, "plan", "--config", config, "--manifest", manifest, "--owners", owners, *arguments])
    checks.that(result.returncode == status, f"{config}, {manifest}: status {result.returncode}, not {status}\n{result}")
    return result


def write(path, manifest):
    path.write_text(json.dumps(manifest))
    return path


def owner_rows(table):
    """Per owner: predicted seconds, MiB, Gflop, matrices."""
    lines = table.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("owner "))
    return [[float(word) for word in line.split()[1:]] for line in lines[start + 1:]]


def ties(directory):
    """A tied head is the embedding: no parameter of its own, no memory, a line in the table."""
    config = job.ROOT / "configs/qwen3.yaml"
    untied = json.loads((job.ROOT / "tests/manifests/qwen3-0.6b.json").read_text())
    by_key = dict(untied, tie_word_embeddings=True)
    entries = [dict(entry, tied_to=EMBEDDING) if entry["name"] == HEAD else entry for entry in untied["parameters"]]
    turned = [dict(entry, tied_to=HEAD) if entry["name"] == EMBEDDING else entry for entry in untied["parameters"]]
    without = dict(untied, parameters=[entry for entry in untied["parameters"] if entry["name"] != HEAD])
    expected = plan(config, write(directory / "without.json", without), 3, "--format", "json").stdout
    for what, manifest in (("tie_word_embeddings", by_key), ("tied_to", dict(untied, parameters=entries)),
                           ("an embedding tied to the head", dict(untied, parameters=turned))):
        path = write(directory / "tied.json", manifest)
        checks.that(plan(config, path, 3, "--format", "json").stdout == expected, f"{what}: as if the head were not there")
        rows = [line.split() for line in plan(config, path, 3).stdout.splitlines() if line.startswith(HEAD)]
        checks.that(rows == [[HEAD, "tied", "to", EMBEDDING]], f"{what}: {rows}")
    broken = {"parameters": [{"name": "a", "shape": [2], "tied_to": "b"}]}
    result = plan(config, write(directory / "broken.json", broken), 1, status=2)
    checks.that("parameters[0]: a: tied to b, which is not there" in result.stderr, f"a tie to nothing: {result.stderr}")


def totals():
    """Gflop and matrices of the owners together are those of the parameters."""
    config, manifest = job.ROOT / "configs/olmoe.yaml", job.ROOT / "tests/manifests/olmoe-1b-7b.json"
    for owners in 1, 5:
        entries = json.loads(plan(config, manifest, owners, "--format", "json").stdout)
        rows = owner_rows(plan(config, manifest, owners).stdout)
        checks.that(len(rows) == owners, f"{len(rows)} rows of owners")
        gigaflops = sum(entry["flops"] for entry in entries) / 1e9
        checks.at_most(abs(sum(row[2] for row in rows) - gigaflops), 1e-3 * owners, "Gflop of the owners together")
        held = sum(entry["matrices"] * math.prod(map(int, entry["grid"].split("x"))) for entry in entries)
        checks.that(sum(row[3] for row in rows) == held, f"{owners} owners hold {rows}, not {held} matrices")


def fused(directory):
    """q, k and v in one tensor are three matrices by `split`: rows, or with layout col columns."""
    config = directory / "fused.yaml"
    config.write_text("groups:\n- {match: {name: '*.qkv_proj.weight'}, rule: muon, lr: 1, split: [64, 32, 32]}\n"
                      "- {match: {type: Conv1D}, rule: muon, lr: 1, layout: col, split: [48, 48, 48]}\n")
    manifest = write(directory / "fused.json", {"parameters": [
        {"name": "layers.0.self_attn.qkv_proj.weight", "shape": [128, 64], "module_type": "Linear"},
        {"name": "h.0.attn.c_attn.weight", "shape": [48, 144], "module_type": "Conv1D"}]})
    entries = json.loads(plan(config, manifest, 2, "--format", "json").stdout)
    checks.that([(entry["layout"], entry["matrices"], entry["role"]) for entry in entries]
                == [("row", 3, "attention"), ("col", 3, "attention")], f"fused attention: {entries}")


def variants():
    """The choice that a file is named after is what the plan shows."""
    for path, role, rule in (("qwen3/embedding-hybrid", "lm_head", "hybrid"), ("olmoe/router-left", "router", "left_spectral"),
                             ("gemma3/mlp-matrix", "mlp_down", "muon"), ("gpt-oss/mlp-row", "expert_down", "row_norm")):
        manifest = next((job.ROOT / "tests/manifests").glob(path.split("/")[0] + "-*.json"))
        entries = json.loads(plan(job.ROOT / f"configs/{path}.yaml", manifest, 2, "--format", "json").stdout)
        rules = {entry["rule"] for entry in entries if entry["role"] == role}
        checks.that(rules == {rule}, f"{path}: {role} by {rules}")


with tempfile.TemporaryDirectory() as folder:
    ties(pathlib.Path(folder))
    fused(pathlib.Path(folder))
totals()
variants()
sys.exit(checks.failed > 0)
