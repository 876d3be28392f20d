"""`equishard plan` on tied parameters, fused attention, models of any size, a very large one; its warnings; the configurations."""
import concurrent.futures
import json
import math
import pathlib
import resource
import sys
import tempfile
import time

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


def layers(*entries, **top):
    return dict(top, parameters=[dict(name=name, shape=list(shape), **({"module_type": kind} if kind else {}))
                                 for name, kind, *shape in entries])


POLAR = "- {match: {role: [attention, mlp_gate_up, mlp_down, matrix]}, rule: muon, lr: 0.1}\n"
REST = "- {match: {}, rule: adamw, lr: 0.1}\n"
DENSE = [("embed.weight", "Embedding", 500, 256), ("layers.0.mlp.up_proj.weight", "Linear", 512, 256),
         ("layers.1.mlp.up_proj.weight", "Linear", 512, 256)]
QKV = ("layers.0.self_attn.qkv_proj.weight", "Linear", 384, 256), ("layers.1.self_attn.qkv_proj.weight", "Linear", 384, 256)


def warnings(directory):
    """What may not be meant is said once for all parameters alike, with the line to write; --strict makes it an error, and
    with the line there is nothing left to say."""
    cases = [
        ("nothing to say", POLAR + REST, layers(*DENSE), []),
        ("a guess by shape", POLAR + REST, layers(*DENSE, ("layers.0.foo.weight", None, 256, 256), ("layers.1.foo.weight", None, 256, 256)),
         ["{c}:2: parameter 'layers.0.foo.weight' [256, 256] and 1 more like it: nothing but the shape says that rule muon is "
          "right for it; write what it is: `roles: {\"layers.*.foo.weight\": matrix}`"]),
        ("a head by its rows", POLAR + REST, layers(*DENSE, ("readout.weight", "Linear", 500, 256)),
         ["parameter 'readout.weight' [500, 256]: a head, to rule adamw ({c}:3), only because it has as many rows as the "
          "embedding; write what it is: `roles: {\"readout.weight\": lm_head}`, or matrix"]),
        ("a fused tensor", POLAR + REST, layers(*DENSE, *QKV),
         ["{c}:2: parameter 'layers.0.self_attn.qkv_proj.weight' [384, 256] and 1 more like it: q, k and v are fused in it, and "
          "rule muon takes them as one matrix; write `- {match: {name: \"layers.*.self_attn.qkv_proj.weight\"}, rule: muon, "
          "lr: ..., split: [Q_ROWS, K_ROWS, V_ROWS]}` before this group, or num_attention_heads"]),
        ("heads of which nobody says how many", POLAR.replace("lr:", "layout: auto, lr:") + REST,
         layers(*DENSE, ("layers.0.self_attn.q_proj.weight", "Linear", 256, 256)),
         ["{c}:2: parameter 'layers.0.self_attn.q_proj.weight' [256, 256]: layout auto takes heads apart, and nobody says how "
          "many rows one has, so that rule muon takes all as one matrix; write `head_dim: ROWS` in this group, or "
          "num_attention_heads"]),
        ("a matrix that is left over", POLAR + REST, layers(*DENSE, ("layers.0.mlp.experts.up_proj", None, 8, 128, 64)),
         ["{c}:3: parameter 'layers.0.mlp.experts.up_proj' [8, 128, 64] (role expert_gate_up): by adamw only because no other "
          "group takes it; write `- {match: {role: expert_gate_up}, rule: ..., lr: ...}` before this group"]),
        ("a small one", POLAR + REST, layers(*DENSE, ("layers.0.mlp.experts.up_proj", None, 8, 16, 8)), []),
        ("a group that matches nothing", "- {match: {name: '*.q_prj.*'}, rule: row_norm, lr: 1}\n" + POLAR + REST, layers(*DENSE),
         ["{c}:2: the group matches no parameter of this model; write another `match`, or remove it"]),
        ("a group after one that takes all", REST + POLAR, layers(*DENSE),
         ["{c}:3: the group gets no parameter: what it matches (2, 'layers.0.mlp.up_proj.weight' the first) is taken by groups "
          "before it, as that of line 2; write it before that one",
          "{c}:3: no matrix gets rule muon, nor another with a polar factor, although the configuration has it",
          "{c}:2: parameter 'layers.0.mlp.up_proj.weight' [512, 256] and 1 more like it (role mlp_gate_up): by adamw only"]),
        ("a group whose parameters are taken", POLAR + "- {match: {name: '*.up_proj.*'}, rule: muon, lr: 1}\n" + REST,
         layers(*DENSE), ["{c}:3: the group gets no parameter: what it matches (2, 'layers.0.mlp.up_proj.weight' the first)"]),
        ("fused tensors of which nobody says what they are", POLAR + REST,
         layers(*DENSE, ("layers.0.linear_attn.in_proj_qkvz.weight", "Linear", 100, 64), ("layers.0.mixer.in_proj.weight", "Linear", 256, 64)),
         ["{c}:2: parameter 'layers.0.linear_attn.in_proj_qkvz.weight' [100, 64]: several matrices are fused in it",
          "{c}:2: parameter 'layers.0.mixer.in_proj.weight' [256, 64]: several matrices are fused in it"]),
        ("GPT-2's c_attn without its class", POLAR + REST, layers(*DENSE, ("h.0.attn.c_attn.weight", None, 256, 768)),
         ["{c}:2: parameter 'h.0.attn.c_attn.weight' [256, 768]: q, k and v are fused in it, and rule muon takes them as one matrix; "
          "write `- {match: {name: \"h.*.attn.c_attn.weight\"}, rule: muon, lr: ..., layout: col, split: [Q_COLUMNS, K_COLUMNS, "
          "V_COLUMNS]}` before this group"]),
        ("DeepSeek's kv_b", POLAR + REST, layers(*DENSE, ("layers.0.self_attn.kv_b_proj.weight", "Linear", 320, 64)),
         ["{c}:2: parameter 'layers.0.self_attn.kv_b_proj.weight' [320, 64]: k and v are fused in it, and rule muon takes them as one "
          "matrix; write `- {match: {name: \"layers.*.self_attn.kv_b_proj.weight\"}, rule: muon, lr: ..., split: {repeat: HEADS, "
          "pieces: [K_ROWS_OF_A_HEAD, V_ROWS_OF_A_HEAD]}}` before this group, or num_attention_heads, qk_nope_head_dim"]),
        ("experts by inputs without their class", POLAR.replace("matrix", "expert_gate_up") + REST,
         layers(*DENSE, ("layers.0.mlp.experts.gate_up_proj", None, 8, 256, 512)),
         ["{c}:2: parameter 'layers.0.mlp.experts.gate_up_proj' [8, 256, 512]: gate and up are fused in it, by its shape along the columns"]),
        ("what is no matrix, by its dimensions", "- {match: {ndim: 2}, rule: muon, lr: 0.1}\n" + REST,
         layers(*DENSE, ("layers.ln_1.weight", "LayerNorm", 4, 128)),
         ["{c}:2: parameter 'embed.weight' [500, 256] (role embedding): rule muon is for matrices",
          "{c}:2: parameter 'layers.ln_1.weight' [4, 128] (role other): rule muon is for matrices"]),
        ("the same, meant", "- {match: {ndim: 2, role: [embedding, mlp_gate_up]}, rule: muon, lr: 0.1}\n" + REST, layers(*DENSE), []),
        ("the same by a rule for one side", "- {match: {ndim: 2}, rule: right_spectral, lr: 0.1}\n" + REST, layers(*DENSE), []),
        ("a net that is not needed", POLAR + "- {match: {role: embedding}, rule: row_norm, lr: 1}\n" + REST, layers(*DENSE), []),
    ]
    def check(number, what, groups, manifest, expected, *arguments):
        config, path = directory / f"warned-{number}.yaml", write(directory / f"warned-{number}.json", manifest)
        config.write_text("groups:\n" + groups)
        result = plan(config, path, 2, *arguments, status=2 if expected and arguments else 0)
        start = f"equishard: {'error' if arguments else 'warning'}: "
        said = [line.removeprefix(start) for line in result.stderr.splitlines() if line.startswith(start) and "--strict" not in line]
        checks.that(len(said) == len(expected), f"{what}: {said}")
        for line in expected:
            line = line.replace("{c}", str(config))
            checks.that(any(one.startswith(line) for one in said), f"{what}: no '{line}' in {said}")
        checks.that(("parameter " in result.stdout) == (not arguments or not expected), f"{what}: the plan, or none with --strict")

    with concurrent.futures.ThreadPoolExecutor(4) as workers:  # the command mostly waits for MPI to start
        tasks = [workers.submit(check, number, *case, "--strict") for number, case in enumerate(cases)]
        tasks += [workers.submit(check, "loose", *cases[1])]
        for task in tasks:
            task.result()
    config = directory / "told.yaml"
    config.write_text("roles: {'layers.*.foo.weight': matrix, readout.weight: lm_head}\ngroups:\n"
                      "- {match: {name: 'layers.*.qkv_proj.weight'}, rule: muon, lr: 1, split: [256, 64, 64]}\n" + POLAR + REST)
    told = layers(*DENSE, *QKV, ("layers.0.foo.weight", None, 256, 256), ("readout.weight", None, 500, 256))
    checks.that(plan(config, write(directory / "told.json", told), 2, "--strict").stderr == "", "the lines that were to be written")
    known = layers(*DENSE, *QKV, num_attention_heads=4, num_key_value_heads=1, head_dim=64)
    config.write_text("groups:\n" + POLAR + REST)
    result = plan(config, write(directory / "known.json", known), 2, "--strict", "--format", "json")
    found = {entry["name"]: entry["matrices"] for entry in json.loads(result.stdout)}
    checks.that(found["layers.0.self_attn.qkv_proj.weight"] == 3, f"q, k and v by the manifest's heads: {found}")


def any_size(directory):
    """The four families by their own files at other sizes: attention is head by head; what does not fit is an error."""
    for family, heads, key_value, rows in (("qwen3", 6, 2, 24), ("gemma3", 3, 1, 40), ("olmoe", 8, 8, 16), ("gpt-oss", 6, 2, 10)):
        hidden, top = 72, {"num_attention_heads": heads, "num_key_value_heads": key_value, "head_dim": rows}
        entries = [(f"model.layers.0.self_attn.{name}_proj.weight", "Linear", count * rows, hidden)
                   for name, count in (("q", heads), ("k", key_value), ("v", key_value))]
        entries.append(("model.layers.0.self_attn.o_proj.weight", "Linear", hidden, heads * rows))
        path, config = write(directory / "sized.json", layers(*entries, **top)), job.ROOT / f"configs/{family}.yaml"
        found = [(entry["layout"], entry["matrices"], entry["rule"]) for entry in json.loads(plan(config, path, 2, "--format", "json").stdout)]
        checks.that(found == [("heads_qkv", heads, "muon"), ("heads_qkv", key_value, "muon"), ("heads_qkv", key_value, "muon"),
                              ("heads_o", heads, "muon")], f"{family}: {found}")
        result = plan(config, write(directory / "misfit.json", layers(*entries, **dict(top, num_attention_heads=heads + 1))), 2, status=2)
        checks.that("q_proj.weight: layout auto: it has" in result.stderr, f"{family}: {result.stderr}")


def latent_attention(directory):
    """DeepSeek's kv_b, for every head its rows of k and of v: by split, or by the model's configuration."""
    config, top = directory / "latent.yaml", {"num_attention_heads": 8, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 24}
    entry = ("layers.0.self_attn.kv_b_proj.weight", "Linear", 8 * 40, 64)
    for keys, known in (("split: {repeat: 8, pieces: [16, 24]}", {}), ("layout: auto", top)):
        config.write_text(f"groups:\n- {{rule: muon, lr: 1, {keys}}}\n")
        result = plan(config, write(directory / "latent.json", layers(entry, **known)), 2, "--strict", "--format", "json")
        checks.that([one["matrices"] for one in json.loads(result.stdout)] == [16], f"{keys}: {result.stdout}")


def many_parameters(directory):
    """A mixture of experts as large as DeepSeek V3, every expert a module of its own, on 4096 owners: in 5 s and 200 MB."""
    hidden, experts, entries = 7168, 256, [("model.embed_tokens.weight", "Embedding", 129280, 7168)]
    for layer in range(61):
        path = f"model.layers.{layer}."
        entries += [(f"{path}self_attn.{name}.weight", "Linear", *shape) for name, *shape in (
            ("q_a_proj", 1536, hidden), ("q_b_proj", 24576, 1536), ("kv_a_proj_with_mqa", 576, hidden), ("kv_b_proj", 32768, 512),
            ("o_proj", hidden, 16384))]
        entries += [(f"{path}input_layernorm.weight", "RMSNorm", hidden), (f"{path}post_attention_layernorm.weight", "RMSNorm", hidden)]
        blocks = [("mlp", 18432)] if layer < 3 else [(f"mlp.experts.{e}", 2048) for e in range(experts)] + [("mlp.shared_experts", 2048)]
        entries += [(f"{path}mlp.gate.weight", "Linear", experts, hidden)] if layer >= 3 else []
        for block, size in blocks:
            entries += [(f"{path}{block}.gate_proj.weight", "Linear", size, hidden), (f"{path}{block}.up_proj.weight", "Linear", size, hidden),
                        (f"{path}{block}.down_proj.weight", "Linear", hidden, size)]
    entries += [("model.norm.weight", "RMSNorm", hidden), ("lm_head.weight", "Linear", 129280, hidden)]
    top = {"num_attention_heads": 128, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
    manifest = write(directory / "large.json", layers(*entries, **top))
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    result = plan(job.ROOT / "configs/rules/muon.yaml", manifest, 4096, "--strict", "--format", "json")
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(result.stdout)
    print(f"  {len(found)} parameters on 4096 owners: {seconds:.1f} s, {after.ru_maxrss / 1024:.0f} MB")
    checks.that(len(found) == len(entries), f"{len(found)} of {len(entries)} parameters")
    checks.that(sum(one["matrices"] for one in found) == len(found) + 61 * 255, "kv_b in 256 pieces per layer")
    checks.at_most(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 5, "seconds of processor time")
    checks.at_most(after.ru_maxrss / 1024, 200, "MB")


with tempfile.TemporaryDirectory() as folder:
    for test in ties, fused, warnings, any_size, latent_attention, many_parameters:
        test(pathlib.Path(folder))
totals()
variants()
sys.exit(checks.failed > 0)
